<?php
// Takes callbacks and verifies who sent them, in PHP 8, with nothing to install.
//
//   CALLBACK_SECRETS=whsec_... php -S 127.0.0.1:8000 callbacks.php
//
// In production the package `standard-webhooks/standard-webhooks` verifies the same; HTTPS is your
// proxy's.
declare(strict_types=1);

// Whether `$body`, as the bytes that came, was signed with one of our secrets just now.
function verified(string $body): bool
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > 300) {
        return false; // not of now
    }
    // While a secret is changed there are two, separated by a comma: one that fits will do.
    foreach (explode(',', getenv('CALLBACK_SECRETS')) as $secret) {
        $key = base64_decode(str_replace('whsec_', '', $secret));
        $ours = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
        foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $theirs) {
            if (hash_equals($ours, $theirs)) {
                return true;
            }
        }
    }
    return false;
}

$body = file_get_contents('php://input');
if (!verified($body)) {
    http_response_code(401);
    exit;
}
$event = json_decode($body, true, flags: JSON_THROW_ON_ERROR);
// Comes at least once: keep ids and seqs as merchant.php does. Answer once the event is safe with you.
file_put_contents('php://stdout', "{$event['type']} {$event['data']['paymentRequestId']}\n");
http_response_code(204);
