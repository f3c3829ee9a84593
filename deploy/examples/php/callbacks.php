<?php
// Takes callbacks and verifies who sent them, in PHP 8, with nothing to install.
//
//   CALLBACK_SECRETS=whsec_... php -S 127.0.0.1:8000 callbacks.php
//
// In production the package `standard-webhooks/standard-webhooks` verifies the same; HTTPS is your
// proxy's.
declare(strict_types=1);

// While a secret is changed there are two, separated by a comma: one that fits will do.
$secrets = array_map(
    fn ($secret) => (string) base64_decode(str_replace('whsec_', '', $secret)),
    explode(',', (string) getenv('CALLBACK_SECRETS')),
);
if (min(array_map(strlen(...), $secrets)) < 24) { // anybody can sign with an empty one
    error_log('CALLBACK_SECRETS: write whsec_ and base64 of 24 to 64 bytes, as the reconciler has it');
    http_response_code(500); // comes again
    exit;
}

// Whether `$body`, as the bytes that came, was signed with one of our secrets just now.
function verified(string $body, array $secrets): bool
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > 300) {
        return false; // not of now
    }
    foreach ($secrets as $secret) {
        $ours = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $secret, true));
        foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $theirs) {
            if (hash_equals($ours, $theirs)) {
                return true;
            }
        }
    }
    return false;
}

$body = file_get_contents('php://input');
if (!verified($body, $secrets)) {
    http_response_code(401);
    exit;
}
$event = json_decode($body, true, flags: JSON_THROW_ON_ERROR);
// Comes at least once: keep ids and seqs as merchant.php does. Answer once the event is safe with you.
file_put_contents('php://stdout', "{$event['type']} {$event['data']['paymentRequestId']}\n");
http_response_code(204);
