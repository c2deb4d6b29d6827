import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.net.ProxySelector;
import java.time.Duration;

/**
 * One call by a client of the JDK. Arguments: client, method, URL, and for a
 * POST the file of the body. System properties name the proxy. The first line
 * of the output is the status, what follows is the answer's body.
 */
public class Call {
    public static void main(String[] args) throws Exception {
        byte[] body = args.length > 3 ? Files.readAllBytes(Path.of(args[3])) : null;
        if (args[0].equals("HttpClient")) {
            modern(args[1], URI.create(args[2]), body);
        } else {
            classic(args[1], URI.create(args[2]), body);
        }
        System.out.flush();
    }

    // Its default asks for h2c by Upgrade on every plain http request.
    static void modern(String method, URI uri, byte[] body) throws Exception {
        HttpClient client = HttpClient.newBuilder().proxy(ProxySelector.getDefault()).build();
        HttpRequest.Builder request = HttpRequest.newBuilder(uri).timeout(Duration.ofSeconds(30))
            .method(method, body == null ? BodyPublishers.noBody() : BodyPublishers.ofByteArray(body));
        if (body != null) {
            request.header("Content-Type", "application/octet-stream");
        }
        var response = client.send(request.build(), BodyHandlers.ofByteArray());
        print(response.statusCode(), response.body());
    }

    static void classic(String method, URI uri, byte[] body) throws Exception {
        HttpURLConnection c = (HttpURLConnection) uri.toURL().openConnection();
        c.setRequestMethod(method);
        c.setReadTimeout(30_000);
        if (body != null) {
            c.setDoOutput(true);
            c.setFixedLengthStreamingMode(body.length);
            c.setRequestProperty("Content-Type", "application/octet-stream");
            try (var out = c.getOutputStream()) {
                out.write(body);
            }
        }
        int status = c.getResponseCode();
        try (InputStream in = status < 400 ? c.getInputStream() : c.getErrorStream()) {
            print(status, in == null ? new byte[0] : in.readAllBytes());
        }
    }

    static void print(int status, byte[] body) throws Exception {
        System.out.println(status);
        System.out.write(body);
    }
}
