// Takes callbacks and verifies who sent them, in Java 17, with nothing to install.
//
//   CALLBACK_SECRETS=whsec_... PORT=8000 java Callbacks.java
//
// In production the library `com.standardwebhooks:standardwebhooks` verifies the same; HTTPS is your
// proxy's.
import com.sun.net.httpserver.*;
import java.io.*;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.*;
import java.util.*;
import java.util.concurrent.Executors;
import java.util.regex.*;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Callbacks {
    // While a secret is changed there are two, separated by a comma: one that fits will do.
    static final List<byte[]> SECRETS = new ArrayList<>();

    static void read(String secrets) {
        for (String secret : secrets.split(",", -1)) {
            byte[] key = Base64.getDecoder().decode(secret.strip().replace("whsec_", ""));
            if (key.length < 24) throw new IllegalArgumentException("anybody can sign with an empty one");
            SECRETS.add(key);
        }
    }

    // Whether `body`, as the bytes that came, was signed with one of our secrets just now.
    static boolean verified(Headers headers, byte[] body) throws GeneralSecurityException {
        String id = headers.getFirst("webhook-id"), timestamp = headers.getFirst("webhook-timestamp");
        String signatures = headers.getFirst("webhook-signature");
        if (id == null || timestamp == null || signatures == null) return false;
        if (!timestamp.matches("[0-9]{1,12}")) return false;
        if (Math.abs(System.currentTimeMillis() / 1000 - Long.parseLong(timestamp)) > 300) return false;
        for (byte[] secret : SECRETS) {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(secret, "HmacSHA256"));
            mac.update((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
            byte[] ours = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes();
            for (String theirs : signatures.split(" "))
                if (MessageDigest.isEqual(ours, theirs.getBytes())) return true;
        }
        return false;
    }

    static void take(HttpExchange exchange) throws IOException {
        byte[] body = exchange.getRequestBody().readAllBytes();
        int status = 401;
        try {
            if (verified(exchange.getRequestHeaders(), body)) {
                String event = new String(body, StandardCharsets.UTF_8);
                // Comes at least once: keep ids and seqs as Merchant.java does. Answer once it is safe.
                System.out.println(of(event, "type") + " " + of(event, "paymentRequestId"));
                status = 204;
            }
        } catch (GeneralSecurityException error) {
            status = 500; // comes again
        }
        exchange.sendResponseHeaders(status, -1);
        exchange.close();
    }

    // Jackson's part in production. No text can look like a field, as each quote in a text is escaped.
    static String of(String event, String name) {
        Matcher found = Pattern.compile("\"" + name + "\":\\s*\"([^\"]*)\"").matcher(event);
        return found.find() ? found.group(1) : "";
    }

    public static void main(String[] words) throws IOException {
        try {
            read(System.getenv().getOrDefault("CALLBACK_SECRETS", ""));
        } catch (IllegalArgumentException error) {
            System.err.println("CALLBACK_SECRETS: write whsec_ and base64 of 24 to 64 bytes, as the reconciler has it");
            System.exit(2);
        }
        int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "8000"));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.createContext("/", Callbacks::take);
        server.setExecutor(Executors.newCachedThreadPool());
        server.start();
        System.out.println("listening");
    }
}
