package bowline.interop;

import com.alibaba.nacos.api.NacosFactory;
import com.alibaba.nacos.api.PropertyKeyConst;
import com.alibaba.nacos.api.naming.NamingService;
import com.alibaba.nacos.api.naming.pojo.Instance;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** A service that registers itself by Nacos' client, and calls another one that it finds by it. */
public final class NacosClient {
    private static final String HOST = "127.0.0.1";
    private static final Duration PATIENCE = Duration.ofSeconds(5);

    private final HttpClient http = HttpClient.newBuilder().connectTimeout(PATIENCE).build();
    private final NamingService naming;
    private final String name;
    private final int port;
    private final String calls;

    private NacosClient(NamingService naming, String name, int port, String calls) {
        this.naming = naming;
        this.name = name;
        this.port = port;
        this.calls = calls;
    }

    public static void main(String[] arguments) throws Exception {
        var settings = new Properties();
        settings.setProperty(PropertyKeyConst.SERVER_ADDR, setting("REGISTRY"));
        // A node that has just begun knows nobody, and Nacos' protocol has no word for it.
        settings.setProperty(PropertyKeyConst.NAMING_PUSH_EMPTY_PROTECTION, "true");
        var naming = NacosFactory.createNamingService(settings);
        new NacosClient(naming, setting("NAME"), Integer.parseInt(setting("PORT")), setting("CALLS")).serve();
    }

    private static String setting(String name) {
        var value = System.getenv(name);
        if (value == null || value.isEmpty()) {
            System.err.println(name + " is not set: see interop/README.md");
            System.exit(2);
        }
        return value;
    }

    private void serve() throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(HOST, port), 0);
        ExecutorService workers = Executors.newFixedThreadPool(4);
        server.setExecutor(workers);
        server.createContext("/hello", exchange -> answer(exchange, 200, "hello from " + name));
        server.createContext("/call", this::call);
        server.start();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(server, workers)));
        naming.registerInstance(name, HOST, port);
    }

    private void stop(HttpServer server, ExecutorService workers) {
        try {
            naming.deregisterInstance(name, HOST, port);
            naming.shutDown();
        } catch (Exception error) {
            System.err.println("leaving the registry: " + error);
        }
        server.stop(1);
        workers.shutdown();
    }

    /** Passes a GET of the path in the query on to the service that it calls, and tells whom it called. */
    private void call(HttpExchange exchange) throws IOException {
        try {
            Instance instance = naming.selectOneHealthyInstance(calls);
            String address = instance.getIp() + ":" + instance.getPort();
            exchange.getResponseHeaders().set("x-called", address);
            var request = HttpRequest.newBuilder(URI.create("http://" + address + exchange.getRequestURI().getQuery()));
            var response = http.send(request.timeout(PATIENCE).build(), HttpResponse.BodyHandlers.ofString());
            answer(exchange, response.statusCode(), response.body());
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            answer(exchange, 503, "stopping");
        } catch (Exception error) {
            answer(exchange, 503, "calling " + calls + ": " + error);
        }
    }

    private static void answer(HttpExchange exchange, int status, String body) throws IOException {
        byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
        try (exchange) {
            exchange.sendResponseHeaders(status, bytes.length == 0 ? -1 : bytes.length);
            exchange.getResponseBody().write(bytes);
        }
    }
}
