package bowline.interop;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;

/** A service that registers itself at Eureka, and calls another one that it finds there. */
@SpringBootApplication
public class SpringCloud {
    public static void main(String[] arguments) {
        SpringApplication.run(SpringCloud.class, arguments);
    }
}
