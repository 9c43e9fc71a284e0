# Shared by the scripts in this folder: messages, progress, paths, root, checks.
# Source it; it sets strict mode and defines functions, it does nothing else.
# shellcheck shell=bash

set -euo pipefail

SHOAL_ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
SHOAL_CACHE=${SHOAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/shoal}
SHOAL_STATE=${SHOAL_STATE:-$SHOAL_ROOT/.shoal}
# a lab keeps the port it was started with
SHOAL_PORT=${SHOAL_PORT:-$(cat "$SHOAL_STATE/lab/api-port" 2>/dev/null || echo 8080)}

# ---- messages ---------------------------------------------------------------------------

say() { printf '%s\n' "$*" >&2; }

# die WHAT HAPPENED, WHAT TO DO
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

on_terminal() { [[ -t 2 && ${TERM:-dumb} != dumb ]]; }

now_ms() { printf '%s' "${EPOCHREALTIME/[.,]/}" | sed 's/...$//'; }

# seconds MILLISECONDS: "3.4 s"
seconds() { printf '%d.%d s' $(($1 / 1000)) $(($1 % 1000 / 100)); }

# Shows how long a step takes until the process $2 ends: a line that updates itself on a
# terminal, one plain line a minute otherwise.
watch_step() {
    local title=$1 pid=$2 log=$3 start=$SECONDS frames='|/-\' turn=0 last
    while kill -0 "$pid" 2>/dev/null; do
        if on_terminal; then
            last=$(tail -c 300 "$log" 2>/dev/null | tr '\r' '\n' | tail -n 1 |
                tr -cd '[:print:]' | cut -c 1-50) || last=
            printf '\r\033[K%s %s (%d s) \033[2m%s\033[0m' "${frames:turn++%4:1}" "$title" \
                $((SECONDS - start)) "$last" >&2
            sleep 0.2
        else
            sleep 0.1
            if ((turn++ % 600 == 599)); then
                say "$title: still running after $((SECONDS - start)) s"
            fi
        fi
    done
    if on_terminal; then printf '\r\033[K' >&2; fi
}

# run_step TITLE COMMAND...: runs the command (or shell function) with its output in a log
# file, shows progress, says how long it took. On failure prints the end of the log and
# returns the exit status of the command.
run_step() {
    local title=$1 log pid status=0 begin
    shift
    mkdir -p "$SHOAL_STATE/log"
    log=$SHOAL_STATE/log/$(printf '%s' "$title" | tr -cs 'A-Za-z0-9.' '-' | cut -c 1-60).log
    rm -f "$log" # another user may have made it
    begin=$(now_ms)
    on_terminal || say "$title ..."
    (
        set -e
        "$@"
    ) >"$log" 2>&1 </dev/null &
    pid=$!
    watch_step "$title" "$pid" "$log"
    wait "$pid" || status=$?
    if ((status == 0)); then
        say "$title: done in $(seconds $(($(now_ms) - begin)))"
        return 0
    fi
    say "$title: failed after $(seconds $(($(now_ms) - begin))); the end of $log:"
    tail -n 30 "$log" | sed 's/^/    /' >&2
    return "$status"
}

# ---- root and tools ---------------------------------------------------------------------

# as_root COMMAND...: as it is for root, through sudo for everyone else.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "'$1' needs root and sudo is not installed: run this script as root"
    fi
}

# become_root ARG...: runs this script again through sudo, when it is not root already.
become_root() {
    local keep=() name
    ((EUID)) || return 0
    command -v sudo >/dev/null || die "this needs root and sudo is not installed: run it as root"
    # the folders stay the caller's, who has other files to put there
    mkdir -p "$SHOAL_CACHE"/{kernel,lab,templates} "$SHOAL_STATE/log"
    for name in ${!SHOAL_*} ${!npm_config_*} HOME TERM PATH; do keep+=("$name=${!name}"); done
    exec sudo -- env "${keep[@]}" "$0" "$@"
}

# need TOOL...: every tool must be there.
need() {
    local tool
    for tool; do
        command -v "$tool" >/dev/null ||
            PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null ||
            die "'$tool' is missing: run scripts/deps"
    done
    PATH=$PATH:/usr/sbin:/sbin
}

# Node.js that scripts/deps fetched because the system has none or an old one.
use_own_node() {
    local own=$SHOAL_CACHE/tools/node/bin
    if [[ -x $own/node ]]; then PATH=$own:$PATH; fi
}

# close_inherited: closes everything above stderr. For what outlives the script: it would keep
# the pipes and locks of whoever called it open.
close_inherited() {
    local fd
    for fd in /proc/"$BASHPID"/fd/*; do
        fd=${fd##*/}
        if ((fd > 2)); then eval "exec $fd>&-"; fi
    done
}

# ---- files ------------------------------------------------------------------------------

# hash_tree PATH...: one hash over names, modes and contents of files and folders.
hash_tree() {
    local path
    for path; do
        if [[ -d $path ]]; then
            (cd "$path" && find . -type f -printf '%P %m\n' | LC_ALL=C sort &&
                find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum)
        else
            sha256sum <"$path"
        fi
    done | sha256sum | cut -c 1-16
}

# hash_text TEXT...: hash of the arguments.
hash_text() { printf '%s\n' "$@" | sha256sum | cut -c 1-16; }

# list_of FILE: the words of a list file, comments and blank lines left out.
list_of() { sed -e 's/#.*//' "$1" | tr -s ' \t' '\n\n' | sed '/^$/d'; }

# with_lock FILE COMMAND...: one at a time; says so when it has to wait.
with_lock() {
    local file=$1
    shift
    mkdir -p "$(dirname "$file")"
    [[ -e $file ]] || : >>"$file"
    (
        if ! flock -n 9; then
            say "waiting for another run of this script (lock $file)"
            flock 9
        fi
        "$@" 9>&-
    ) 9<"$file" # for reading: root may have made it
}

# new_dir PARENT NAME: an empty work folder beside its later place, so that it can be
# renamed into it in one step.
new_dir() {
    mkdir -p "$1"
    mktemp -d "$1/.$2.XXXXXX"
}

# keep_newest COUNT PATTERN...: removes all but the newest COUNT of the paths.
keep_newest() {
    local count=$1 path
    shift
    { ls -dt -- "$@" 2>/dev/null || true; } | tail -n +$((count + 1)) |
        while IFS= read -r path; do rm -rf -- "$path"; done
}

# The machine's own extra certificate authorities; SHOAL_EXTRA_CA names other files or a
# folder, or is "none".
extra_ca_files() {
    local from=${SHOAL_EXTRA_CA-/usr/local/share/ca-certificates} item
    if [[ $from == none ]]; then return 0; fi
    for item in $from; do
        if [[ -d $item ]]; then
            find -L "$item" -type f -name '*.crt' | LC_ALL=C sort
        elif [[ -f $item ]]; then
            printf '%s\n' "$item"
        else
            die "SHOAL_EXTRA_CA names '$item', which does not exist: correct it or set it to 'none'"
        fi
    done
}
