// A merchant beside the reconciler, in Java 17, with nothing to install.
//
// In production use Jedis or Lettuce in place of the client below (the commands are the same), and
// Jackson in place of `of` and `quoted`.
import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.regex.*;

public class Merchant {
    static final String USAGE = """
        java Merchant.java track order-4711 USD 599    have a payment of USD 5.99 followed
        java Merchant.java outcomes [shop-1]           hear how payments end, for ever""";

    static final String COMMANDS = "reconciler:v1:commands", OUTCOMES = "reconciler:v1:outcomes";
    static final String GROUP = "shop";

    // Write before or right after you call pay; to write it twice is safe.
    static void track(String paymentRequestId, String currency, String value) throws IOException {
        String data = """
            {"paymentRequestId":%s,"paymentAmount":{"currency":%s,"value":%s},"expiresIn":600}"""
            .formatted(quoted(paymentRequestId), quoted(currency), quoted(value));
        System.out.println(redis("XADD", COMMANDS, "*", "type", "payment.track", "data", data));
    }

    // What you read is yours until you acknowledge it: after a restart under the same name it comes
    // first. What another reader left lying for a minute is taken over.
    static void outcomes(String me) throws IOException {
        try {
            redis("XGROUP", "CREATE", OUTCOMES, GROUP, "0", "MKSTREAM");
        } catch (IllegalStateException error) {
            if (!error.getMessage().startsWith("BUSYGROUP")) throw error; // BUSYGROUP: it is there
        }
        while (true) {
            redis("XAUTOCLAIM", OUTCOMES, GROUP, me, "60000", "0", "JUSTID");
            List<Object> entries = read(me, "STREAMS", OUTCOMES, "0");
            if (entries.isEmpty()) entries = read(me, "BLOCK", "5000", "STREAMS", OUTCOMES, ">");
            for (Object entry : entries) {
                List<Object> fields = list(list(entry).get(1));
                // null: trimmed meanwhile
                if (fields != null) once((String) fields.get(fields.indexOf("data") + 1));
                redis("XACK", OUTCOMES, GROUP, (String) list(entry).get(0));
            }
        }
    }

    static List<Object> read(String me, String... how) throws IOException {
        List<String> words = new ArrayList<>(List.of("XREADGROUP", "GROUP", GROUP, me, "COUNT", "100"));
        words.addAll(List.of(how));
        Object streams = redis(words.toArray(String[]::new)); // null: nothing new for five seconds
        return streams == null ? List.of() : list(list(list(streams).get(0)).get(1));
    }

    // Events come at least once. Your database keeps their ids and seqs, and writes them in the
    // transaction that changes the order; here a file stands for it.
    static void once(String event) throws IOException {
        Path book = Path.of(System.getenv().getOrDefault("BOOK", "outcomes.tsv"));
        String id = of(event, "id"), payment = of(event, "clientId") + ":" + of(event, "paymentRequestId");
        String seq = of(event, "seq"); // command.rejected has none
        for (String line : Files.exists(book) ? Files.readAllLines(book) : List.<String>of()) {
            String[] seen = line.split("\t", -1);
            boolean newer = seq.isEmpty() || seen[2].isEmpty() || Long.parseLong(seq) > Long.parseLong(seen[2]);
            if (seen[0].equals(id) || (seen[1].equals(payment) && !newer)) return;
        }
        handle(of(event, "type"), event);
        String line = id + "\t" + payment + "\t" + seq + "\n";
        Files.writeString(book, line, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    static void handle(String type, String event) {
        String what = switch (type) {
            case "payment.succeeded" -> "deliver";
            case "payment.failed", "payment.cancelled" -> "do not deliver";
            case "payment.cancelling" -> "do not deliver, the final word follows";
            case "payment.submitted" -> "send the buyer to " + of(event, "redirectUrl");
            case "payment.unresolved" -> "a person must look: " + of(event, "reason");
            case "payment.attention" -> "a person must look: " + of(event, "kind");
            case "command.rejected" -> "mend the program: " + of(event, "reason") + ", " + of(event, "message");
            default -> "nothing to do";
        };
        System.out.println(type + " " + of(event, "paymentRequestId") + ": " + what);
    }

    // The first field of this name. No text can look like one, as each quote in a text is escaped.
    static String of(String event, String name) {
        String value = "(?:\"((?:[^\"\\\\]|\\\\.)*)\"|(\\d+))";
        Matcher found = Pattern.compile("\"" + name + "\":\\s*" + value).matcher(event);
        if (!found.find()) return "";
        return found.group(1) == null ? found.group(2) : found.group(1).replaceAll("\\\\(.)", "$1");
    }

    static String quoted(String text) {
        return '"' + text.replaceAll("[\"\\\\]", "\\\\$0") + '"';
    }

    // ---- a small Redis client ----
    // One command, one answer. A lost connection ends the program; whoever started it starts it again.
    static InputStream in;
    static OutputStream out;

    static Object redis(String... words) throws IOException {
        if (in == null) connect(System.getenv().getOrDefault("REDIS_URL", "redis://127.0.0.1:6379"));
        ByteArrayOutputStream request = new ByteArrayOutputStream();
        request.writeBytes(("*" + words.length + "\r\n").getBytes());
        for (String word : words) {
            byte[] bytes = word.getBytes(StandardCharsets.UTF_8);
            request.writeBytes(("$" + bytes.length + "\r\n").getBytes());
            request.writeBytes(bytes);
            request.writeBytes("\r\n".getBytes());
        }
        out.write(request.toByteArray());
        return answer();
    }

    static void connect(String url) throws IOException {
        String safe = "(?:[^%@/?#]|%[0-9a-fA-F]{2})*"; // all else is percent-encoded
        String rule = "redis://(?:(" + safe + "?):(" + safe + ")@)?(\\[.+\\]|[^:@/?#]+)(?::(\\d+))?(?:/(\\d*))?";
        Matcher parts = Pattern.compile(rule).matcher(url);
        if (!parts.matches())
            stop("REDIS_URL: write redis://user:password@host:6379/0 (TLS, rediss://, is for a real client)", 2);
        String user = parts.group(1), password = parts.group(2), port = parts.group(4), database = parts.group(5);
        Socket socket = new Socket(parts.group(3), port == null ? 6379 : Integer.parseInt(port));
        in = new BufferedInputStream(socket.getInputStream());
        out = socket.getOutputStream();
        if (password != null) redis("AUTH", user.isEmpty() ? "default" : plain(user), plain(password));
        if (database != null && !database.matches("0*")) redis("SELECT", database);
    }

    static String plain(String encoded) { // as of a URL, where + is a plus, and not as of a form
        return URLDecoder.decode(encoded.replace("+", "%2B"), StandardCharsets.UTF_8);
    }

    static Object answer() throws IOException { // RESP 2
        int kind = in.read();
        String head = "";
        for (int c; (c = in.read()) != '\r'; head += (char) c) if (c < 0) throw new EOFException("Redis is gone");
        in.read();
        if (kind == '-') throw new IllegalStateException(head);
        if (kind == '+' || kind == ':') return head;
        int size = Integer.parseInt(head);
        if (size < 0) return null;
        if (kind == '$') {
            String text = new String(in.readNBytes(size), StandardCharsets.UTF_8);
            in.skipNBytes(2);
            return text;
        }
        List<Object> items = new ArrayList<>();
        while (items.size() < size) items.add(answer());
        return items;
    }

    @SuppressWarnings("unchecked")
    static List<Object> list(Object answer) {
        return (List<Object>) answer;
    }

    static void stop(String why, int code) {
        System.err.println(why);
        System.exit(code);
    }

    public static void main(String[] words) {
        String verb = words.length > 0 ? words[0] : "";
        try {
            if (verb.equals("track") && words.length == 4) track(words[1], words[2], words[3]);
            else if (verb.equals("outcomes") && words.length < 3) outcomes(words.length > 1 ? words[1] : "shop-1");
            else stop(USAGE, 2);
        } catch (IOException | IllegalStateException error) {
            stop("Redis: " + error.getMessage(), 1);
        }
    }
}
