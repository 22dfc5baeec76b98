#!/usr/bin/env bash
# Verifies the whole stack: boots it, checks its health, migrates, seeds, runs one chat turn, sees a reminder fire,
# prints the metrics. Exit status 0 when all of that worked.
#
# Uses infra/compose.yaml where a Docker engine answers, else (or with SMOKE_WITHOUT_DOCKER=1) scripts/up on SQLite and a
# private Redis, with a folder and a port of its own. SMOKE_URL checks a stack that runs already (with SMOKE_API_KEY).
set -euo pipefail
cd "$(dirname "$0")/.."

api_key=${SMOKE_API_KEY:-sk-demo-accountability}
work=$(mktemp -d)
up_pid="" compose=()
finished=""

main() {
    trap finish EXIT
    boot
    check_health
    chat
    await_delivery
    print_metrics
    finished=yes
}

boot() {
    if [ -n "${SMOKE_URL:-}" ]; then
        url=$SMOKE_URL
        say "checking $url"
    elif [ -z "${SMOKE_WITHOUT_DOCKER:-}" ] && docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then
        boot_compose
    else
        boot_up
    fi
}

boot_compose() {
    say "booting infra/compose.yaml"
    compose=(docker compose -f infra/compose.yaml)
    url=http://127.0.0.1:${API_PORT:-8000}
    "${compose[@]}" up --build --detach --wait
    "${compose[@]}" exec -T api alembic upgrade head
    "${compose[@]}" exec -T api companion seed --demo
}

boot_up() {
    local port=18000
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    url=http://127.0.0.1:$port
    say "booting scripts/up at $url"
    env -u PORT -u REDIS_URL -u APP_REDIS__URL -u APP_DATABASE__URL -u DATABASE_URL API_PORT="$port" \
        RUN_DIR="$work/run" ./scripts/up >"$work/log" 2>&1 &
    up_pid=$!
    await "ready" 900 grep -q '^ready ' "$work/log"
}

check_health() {
    get /health >/dev/null
    local health
    health=$(get /healthz)
    say "/healthz: $health"
    [ "$(grep -oE '"(db|redis|celery)": ?"ok"' <<<"$health" | wc -l)" = 3 ] || fail "not healthy"
}

# One chat turn; remembers the id of the reminder that it made.
chat() {
    local answer
    sent_before=$(counter)
    answer=$(curl -sS --fail-with-body -m 30 -X POST "$url/chat" -H "X-API-Key: $api_key" \
        -H 'Content-Type: application/json' -d '{"message": "Remind me to drink water in 1 minute"}')
    say "/chat: $answer"
    grep -q '"schedule_reminder"' <<<"$answer" || fail "the chat scheduled no reminder"
    reminder=$(grep -oE '"id": ?"[0-9a-f-]{36}"' <<<"$answer" | grep -oE '[0-9a-f-]{36}' | head -n1)
    [ -n "$reminder" ] || fail "the answer names no reminder"
}

await_delivery() {
    say "waiting for reminder $reminder, due in a minute"
    await "reminder $reminder sent" 180 reminder_is_sent
    [ "$(counter)" -gt "$sent_before" ] || fail "the counter reminder_sent did not rise"
}

reminder_is_sent() {
    get /reminders -H "X-API-Key: $api_key" | tr '{' '\n' | grep -F "$reminder" | grep -qE '"status": ?"sent"'
}

counter() { get /metrics/basic | grep -oE '"reminder_sent": ?[0-9]+' | grep -oE '[0-9]+$' || echo 0; }

print_metrics() {
    say "/metrics/basic: $(get /metrics/basic)"
    get /metrics | grep -E '^ai_' || fail "/metrics has no ai_ metrics"
}

get() {
    local path=$1
    shift
    curl -sS --fail-with-body -m 15 "$@" "$url$path"
}

# await WHAT SECONDS COMMAND...
await() {
    local what=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@"; do
        [ -z "$up_pid" ] || kill -0 "$up_pid" 2>/dev/null || fail "the stack ended"
        [ $SECONDS -lt "$deadline" ] || fail "in vain waited for: $what"
        sleep 1
    done
}

finish() {
    if [ -z "$finished" ]; then
        [ ! -e "$work/log" ] || tail -n 60 "$work/log" >&2
        [ ${#compose[@]} = 0 ] || "${compose[@]}" logs --tail 60 >&2
    fi
    if [ -n "$up_pid" ]; then
        kill -TERM "$up_pid" 2>/dev/null || true
        wait "$up_pid" || true
    fi
    [ ${#compose[@]} = 0 ] || [ -n "${SMOKE_KEEP:-}" ] || "${compose[@]}" down --volumes >/dev/null 2>&1 || true
    rm -rf "$work"
    if [ -n "$finished" ]; then say "PASSED"; else say "FAILED"; fi
}

say() { echo "smoke: $*"; }

fail() {
    say "$1" >&2
    exit 1
}

main
