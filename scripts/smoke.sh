#!/usr/bin/env bash
# Verifies the whole stack: boots it, checks its health, migrates, seeds, runs one chat turn, sees a reminder fire,
# prints the metrics. Exit status 0 when all of that worked.
#
# Uses infra/compose.yaml where a Docker engine answers, else (or with SMOKE_WITHOUT_DOCKER=1) scripts/up. Either way the
# stack is its own: a Compose project, images, volumes, a folder and a port that nobody else uses, and none of the
# caller's settings, so that no live database, mail account or running stack is touched. Everything is removed at the end,
# unless SMOKE_KEEP=1. SMOKE_URL checks a stack that runs already, as the owner of SMOKE_API_KEY.
set -euo pipefail
cd "$(dirname "$0")/.."

api_key=${SMOKE_API_KEY:-sk-demo-accountability}
work=$(mktemp -d)
up_pid="" compose=() images=()
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
    local project="ai-companion-smoke-$$" port existing
    port=$(free_port)
    url=http://127.0.0.1:$port
    # Without a file .env: the one in infra/ holds the settings of the live stack.
    local command=(clean IMAGE_TAG="smoke-$$" API_PORT="$port" APP_ENV=development NOTIFY_FILE=/tmp/outbox.jsonl EXPO_PUSH_URL=
        docker compose --project-name "$project" --env-file /dev/null --file infra/compose.yaml)
    existing=$("${command[@]}" ps --all --quiet)
    [ -z "$existing" ] || fail "the Compose project $project exists already; it is left alone"
    say "booting infra/compose.yaml as the project $project at $url"
    compose=("${command[@]}") images=("ai-companion-api:smoke-$$" "ai-companion-service:smoke-$$")
    "${compose[@]}" up --build --detach --wait
    "${compose[@]}" exec -T api alembic upgrade head
    "${compose[@]}" exec -T api companion seed --demo
}

boot_up() {
    local port
    port=$(free_port)
    url=http://127.0.0.1:$port
    say "booting scripts/up at $url"
    clean API_PORT="$port" RUN_DIR="$work/run" NOTIFY_FILE="$work/outbox.jsonl" ./scripts/up >"$work/log" 2>&1 &
    up_pid=$!
    await "ready" 900 grep -q '^ready ' "$work/log"
}

# clean [NAME=VALUE...] COMMAND...: runs it with what tools need of the environment, and without any setting of the service.
clean() {
    local name kept=()
    while IFS= read -r name; do
        case $name in
        PATH | HOME | USER | LOGNAME | SHELL | TERM | LANG | LC_* | TMPDIR | XDG_* | CI) ;;
        CARGO* | RUST* | CC | CXX | UP_PROFILE | SSL_CERT_* | *_proxy | *_PROXY | DEBIAN_FRONTEND) ;;
        DOCKER_* | BUILDKIT_* | BUILDX_* | COMPOSE_DOCKER_CLI_BUILD | COMPOSE_BAKE) ;;
        *) continue ;;
        esac
        kept+=("$name=${!name}")
    done < <(compgen -e)
    exec_env "${kept[@]}" "$@"
}

# In a subshell that becomes the program, so that the process in the background is the program itself.
exec_env() {
    if [ "$BASHPID" != "$$" ]; then exec env -i "$@"; else env -i "$@"; fi
}

free_port() {
    local port=$((18000 + $$ % 1000))
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    echo "$port"
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

# await CONDITION SECONDS COMMAND...
await() {
    local condition=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@"; do
        [ -z "$up_pid" ] || kill -0 "$up_pid" 2>/dev/null || fail "the stack ended"
        [ $SECONDS -lt "$deadline" ] || fail "gave up waiting for: $condition"
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
    if [ ${#compose[@]} != 0 ] && [ -z "${SMOKE_KEEP:-}" ]; then
        "${compose[@]}" down --volumes >/dev/null 2>&1 || true
        docker image rm "${images[@]}" >/dev/null 2>&1 || true
    fi
    rm -rf "$work"
    if [ -n "$finished" ]; then say "PASSED"; else say "FAILED"; fi
}

say() { echo "smoke: $*"; }

fail() {
    say "$1" >&2
    exit 1
}

main
