#!/bin/sh
# A merchant beside the reconciler, with redis-cli (7 or later) and jq.
#
#   sh merchant.sh track order-4711 USD 599    have a payment of USD 5.99 followed
#   sh merchant.sh outcomes [shop-1]           hear how payments end, for ever
set -eu
COMMANDS=reconciler:v1:commands OUTCOMES=reconciler:v1:outcomes GROUP=shop
BOOK=${BOOK:-outcomes.tsv} URL=${REDIS_URL:-redis://127.0.0.1:6379}

redis() { # -e: an error of Redis ends the program; whoever started it starts it again
	redis-cli -u "$URL" --no-auth-warning -e "$@" </dev/null
}

# Write before or right after you call pay; to write it twice is safe.
track() {
	data=$(jq -nc --arg id "$1" --arg currency "$2" --arg value "$3" \
		'{paymentRequestId: $id, paymentAmount: {$currency, $value}, expiresIn: 600}')
	redis XADD "$COMMANDS" '*' type payment.track data "$data"
}

# What you read is yours until you acknowledge it: after a restart under the same name it comes
# first. What another reader left lying for a minute is taken over.
outcomes() {
	me=${1:-shop-1}
	made=$(redis XGROUP CREATE "$OUTCOMES" "$GROUP" 0 MKSTREAM 2>&1) ||
		case $made in *BUSYGROUP*) ;; *) echo "$made" >&2; exit 1 ;; esac
	while :; do
		redis XAUTOCLAIM "$OUTCOMES" "$GROUP" "$me" 60000 0 JUSTID >/dev/null
		entries=$(entries STREAMS "$OUTCOMES" 0)
		[ -n "$entries" ] || entries=$(entries BLOCK 5000 STREAMS "$OUTCOMES" '>')
		[ -z "$entries" ] || printf '%s\n' "$entries" | while IFS= read -r entry; do
			once "$(printf '%s' "$entry" | jq -c '.[1] // ["data", "null"] | .[index("data") + 1] | fromjson')"
			redis XACK "$OUTCOMES" "$GROUP" "$(printf '%s' "$entry" | jq -r '.[0]')" >/dev/null
		done
	done
}

entries() { # one a line: [id, [field, value, ...]]
	said=$(redis --json XREADGROUP GROUP "$GROUP" "$me" COUNT 100 "$@")
	printf '%s' "$said" | jq -c '.[]? | .[]'
}

# Events come at least once. Your database keeps their ids and seqs, and writes them in the transaction
# that changes the order; here a file stands for it.
once() {
	[ "$1" != null ] || return 0 # trimmed meanwhile
	line=$(printf '%s' "$1" | jq -r '[.id, "\(.data.clientId):\(.data.paymentRequestId)", .data.seq // ""] | @tsv')
	touch "$BOOK"
	printf '%s\n' "$line" | cat "$BOOK" - | awk -F '\t' '
		{ ids[NR] = $1; payments[NR] = $2; seqs[NR] = $3 }
		END { for (i = 1; i < NR; i++)
			if (ids[i] == $1 || (payments[i] == $2 && $3 != "" && $3 + 0 <= seqs[i] + 0)) exit 1 }' || return 0
	handle "$1"
	printf '%s\n' "$line" >>"$BOOK"
}

handle() {
	printf '%s' "$1" | jq -r '"\(.type) \(.data.paymentRequestId): " + ({
		"payment.succeeded": "deliver",
		"payment.failed": "do not deliver",
		"payment.cancelled": "do not deliver",
		"payment.cancelling": "do not deliver, the final word follows",
		"payment.submitted": "send the buyer to \(.data.redirectUrl)",
		"payment.unresolved": "a person must look: \(.data.reason)",
		"payment.attention": "a person must look: \(.data.kind)",
		"command.rejected": "mend the program: \(.data.reason), \(.data.message)"
	}[.type] // "nothing to do")'
}

case $#:${1:-} in
4:track | 1:outcomes | 2:outcomes) ;;
*) sed -n 's/^#   //p' "$0" >&2; exit 2 ;;
esac
# What redis-cli would pass over: a database that is no number; a password or database that Redis refuses
printf '%s\n' "$URL" | grep -Eqx 'rediss?://([^:@/?#]*:[^@/?#]*@)?(\[[^]]+\]|[^]:@/?#[]+)(:[0-9]+)?(/[0-9]*)?' || {
	echo 'REDIS_URL: write redis://user:password@host:6379/0, or rediss:// for TLS' >&2
	exit 2
}
said=$(redis PING 2>&1) && [ "$said" = PONG ] || { printf '%s\n' "$said" >&2; exit 1; }
"$@"
