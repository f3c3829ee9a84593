<?php
// A merchant beside the reconciler, in PHP 8, with nothing to install.
//
// In production use the extension `redis` (phpredis) or the package `predis/predis` in place of the
// client below; the commands are the same.
declare(strict_types=1);

const USAGE = <<<'TEXT'
php merchant.php track order-4711 USD 599    have a payment of USD 5.99 followed
php merchant.php outcomes [shop-1]           hear how payments end, for ever

TEXT;

const COMMANDS = 'reconciler:v1:commands';
const OUTCOMES = 'reconciler:v1:outcomes';
const GROUP = 'shop';

// Write before or right after you call pay; to write it twice is safe.
function track(string $paymentRequestId, string $currency, string $value): void
{
    $amount = ['currency' => $currency, 'value' => $value];
    $data = ['paymentRequestId' => $paymentRequestId, 'paymentAmount' => $amount, 'expiresIn' => 600];
    echo redis('XADD', COMMANDS, '*', 'type', 'payment.track', 'data', json_encode($data)), "\n";
}

// What you read is yours until you acknowledge it: after a restart under the same name it comes
// first. What another reader left lying for a minute is taken over.
function outcomes(string $me = 'shop-1'): void
{
    try {
        redis('XGROUP', 'CREATE', OUTCOMES, GROUP, '0', 'MKSTREAM');
    } catch (RuntimeException $error) {
        str_starts_with($error->getMessage(), 'BUSYGROUP') || throw $error; // BUSYGROUP: it is there
    }
    while (true) {
        redis('XAUTOCLAIM', OUTCOMES, GROUP, $me, '60000', '0', 'JUSTID');
        $read = ['XREADGROUP', 'GROUP', GROUP, $me, 'COUNT', '100'];
        $entries = redis(...$read, ...['STREAMS', OUTCOMES, '0'])[0][1];
        $entries = $entries ?: redis(...$read, ...['BLOCK', '5000', 'STREAMS', OUTCOMES, '>'])[0][1] ?? [];
        foreach ($entries as [$entryId, $fields]) {
            if ($fields !== null) { // null: trimmed meanwhile
                $data = $fields[array_search('data', $fields, true) + 1];
                once(json_decode($data, true, flags: JSON_THROW_ON_ERROR));
            }
            redis('XACK', OUTCOMES, GROUP, $entryId);
        }
    }
}

// Events come at least once. Your database keeps their ids and seqs, and writes them in the transaction
// that changes the order; here a file stands for it.
function once(array $event): void
{
    $book = getenv('BOOK') ?: 'outcomes.tsv';
    $payment = "{$event['data']['clientId']}:{$event['data']['paymentRequestId']}";
    $seq = $event['data']['seq'] ?? ''; // command.rejected has none
    foreach (is_file($book) ? file($book, FILE_IGNORE_NEW_LINES) : [] as $line) {
        [$seenId, $ofPayment, $seenSeq] = explode("\t", $line);
        if ($seenId === $event['id'] || ($ofPayment === $payment && $seq !== '' && $seq <= (int) $seenSeq)) {
            return;
        }
    }
    handle($event['type'], $event['data']);
    file_put_contents($book, "{$event['id']}\t$payment\t$seq\n", FILE_APPEND);
}

function handle(string $type, array $data): void
{
    $what = match ($type) {
        'payment.succeeded' => 'deliver',
        'payment.failed', 'payment.cancelled' => 'do not deliver',
        'payment.cancelling' => 'do not deliver, the final word follows',
        'payment.submitted' => "send the buyer to {$data['redirectUrl']}",
        'payment.unresolved' => "a person must look: {$data['reason']}",
        'payment.attention' => "a person must look: {$data['kind']}",
        'command.rejected' => "mend the program: {$data['reason']}, {$data['message']}",
        default => 'nothing to do',
    };
    echo "$type {$data['paymentRequestId']}: $what\n";
}

// ---- a small Redis client ----
// One command, one answer. A lost connection ends the program; whoever started it starts it again.

function redis(string ...$words): mixed
{
    static $socket = null;
    if ($socket === null) {
        $safe = '(?:[^%@/?#]|%[0-9a-f]{2})*'; // all else is percent-encoded
        $rule = "~^redis://(?:($safe?):($safe)@)?(\\[.+\\]|[^:@/?#]+)(?::(\d+))?(?:/(\d*))?$~Di";
        $url = getenv('REDIS_URL') ?: 'redis://127.0.0.1:6379';
        preg_match($rule, $url, $parts, PREG_UNMATCHED_AS_NULL)
            || stop('REDIS_URL: write redis://user:password@host:6379/0 (TLS, rediss://, is for a real client)', 2);
        [, $user, $password, $host, $port, $database] = $parts;
        $socket = stream_socket_client("tcp://$host:" . ($port ?? 6379), timeout: 10);
        stream_set_timeout($socket, 60);
        if ($password !== null) {
            redis('AUTH', rawurldecode($user) ?: 'default', rawurldecode($password));
        }
        if ((int) $database) {
            redis('SELECT', $database);
        }
    }
    $parts = array_map(fn ($word) => '$' . strlen($word) . "\r\n$word\r\n", $words);
    fwrite($socket, '*' . count($words) . "\r\n" . implode('', $parts));
    return answer($socket);
}

function answer($socket): mixed // RESP 2
{
    $line = fgets($socket);
    $line !== false || throw new RuntimeException('the connection to Redis is lost');
    [$kind, $head] = [$line[0], rtrim(substr($line, 1))];
    return match (true) {
        $kind === '-' => throw new RuntimeException($head),
        $head === '-1' => null,
        $kind === '$' => substr(stream_get_contents($socket, (int) $head + 2), 0, -2),
        $kind === '*' => array_map(fn () => answer($socket), array_fill(0, (int) $head, null)),
        default => $head,
    };
}

function stop(string $why, int $code): never
{
    fwrite(STDERR, trim($why) . "\n");
    exit($code);
}

set_error_handler(fn ($_, $message) => throw new ErrorException($message));
[$verb, $words] = [$argv[1] ?? '', array_slice($argv, 2)];
try {
    match (true) {
        $verb === 'track' && count($words) === 3 => track(...$words),
        $verb === 'outcomes' && count($words) < 2 => outcomes(...$words),
        default => stop(USAGE, 2),
    };
} catch (RuntimeException | ErrorException $error) { // uncaught, it would show the password
    stop("Redis: {$error->getMessage()}", 1);
}
