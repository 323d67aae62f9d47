package bowline.interop;

import jakarta.servlet.http.HttpServletRequest;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.cloud.client.loadbalancer.LoadBalancerClient;
import org.springframework.http.HttpStatus;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.ExceptionHandler;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/** What the service answers. */
@RestController
class Greeter {
    private static final Duration PATIENCE = Duration.ofSeconds(5);

    private final HttpClient http = HttpClient.newBuilder().connectTimeout(PATIENCE).build();
    private final LoadBalancerClient balancer;
    private final String name;
    private final String calls;

    Greeter(LoadBalancerClient balancer, @Value("${NAME}") String name, @Value("${CALLS}") String calls) {
        this.balancer = balancer;
        this.name = name;
        this.calls = calls;
    }

    @GetMapping("/hello")
    String hello() {
        return "hello from " + name;
    }

    /** Passes a GET of the path in the query on to the service that it calls, and tells whom it called. */
    @GetMapping("/call")
    ResponseEntity<String> call(HttpServletRequest request) throws IOException, InterruptedException {
        var chosen = balancer.choose(calls);
        if (chosen == null) {
            return ResponseEntity.status(HttpStatus.SERVICE_UNAVAILABLE).body("nobody is known as " + calls);
        }
        var target = URI.create(chosen.getUri() + request.getQueryString());
        var passed = HttpRequest.newBuilder(target).timeout(PATIENCE).build();
        var answer = http.send(passed, HttpResponse.BodyHandlers.ofString());
        var called = chosen.getHost() + ":" + chosen.getPort();
        return ResponseEntity.status(answer.statusCode()).header("x-called", called).body(answer.body());
    }

    @ExceptionHandler(IOException.class)
    ResponseEntity<String> unreachable(IOException error) {
        return ResponseEntity.status(HttpStatus.SERVICE_UNAVAILABLE).body("calling " + calls + ": " + error);
    }
}
