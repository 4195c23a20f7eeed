# Saying things, and running processes that outlive the caller; sourced by deploy/local.
# shellcheck shell=bash disable=SC2154 # what deploy/local sets

report() {
    printf '  %-12s %-10s %s\n' "$@"
}

die() {
    printf 'deploy/local: %s\n' "$1" >&2
    exit 1
}

# die_with_log MESSAGE FILE...
die_with_log() {
    local log
    printf 'deploy/local: %s\n' "$1" >&2
    shift
    for log in "$@"; do
        [[ -s $log ]] || continue
        printf '\nThe end of %s:\n' "$log" >&2
        tail -n 15 "$log" | sed 's/^/    /' >&2
    done
    exit 1
}

# How long it took since the start of this script.
seconds_taken() {
    local now=$EPOCHREALTIME hundredths
    hundredths=$(((${now/[.,]/} - ${began/[.,]/}) / 10000))
    printf '%d.%02d s' $((hundredths / 100)) $((hundredths % 100))
}

# Quotes a value for a shell where it has to be, so that a plain one can be read by anything.
quote() {
    if [[ $1 =~ ^[A-Za-z0-9_./:@%+=-]+$ ]]; then
        printf '%s' "$1"
    else
        printf "'%s'" "${1//\'/\'\\\'\'}"
    fi
}

# detached LOG COMMAND...: as the run user, without the caller's terminal and open files (the lock is one of them), so
# that it outlives the caller. Replaces the shell: to be called in one of its own.
detached() {
    local log=$1 fd
    shift
    for fd in "/proc/$BASHPID/fd/"*; do
        fd=${fd##*/}
        ((fd <= 2)) || eval "exec $fd>&-"
    done
    # shellcheck disable=SC2016 # for the inner shell, which opens the log as the run user
    exec "${as_run_user[@]}" setsid bash -c 'exec "$@" >>"$0" 2>&1' "$log" "$@" </dev/null >/dev/null 2>&1
}

# put FILE MODE OWNER [PART]: writes standard input to FILE, in one step. When that is not what it held already, PART
# has to be told, which run/PART.changed stands for until it is done, be it by a later start.
put() {
    local new
    new=$(mktemp "$1.XXXXXX")
    cat >"$new"
    chmod "$2" "$new"
    ((EUID != 0)) || chown "$3:" "$new"
    [[ $# -lt 4 ]] || cmp -s "$new" "$1" || : >"$run/$4.changed"
    mv -f "$new" "$1"
}

# Prints the process id of a part of this instance, if that runs. A file with a process id can be older than the last
# boot, and the process another program's: its command line has to be our part's.
pid_of() {
    local file=$run/$1.pid sign pid=
    case $1 in
        postgresql) file=$var/pgdata/postmaster.pid sign="-D $var/pgdata " ;;
        nginx) sign="-c $var/nginx.conf " ;;
        *.supervisor) sign="$var/bin/keep-running $run/${1%.supervisor} " ;;
        *) sign="--listen $run/$1.sock " ;;
    esac
    [[ -r $file ]] || return 1
    read -r pid <"$file" || :
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qF -- "$sign" || return 1
    printf '%s' "$pid"
}

# end PART SIGNAL SECONDS [SIGNAL SECONDS...]: a signal, and when the part still runs after so many seconds the next.
end() {
    local part=$1 pid
    shift
    while (($# > 0)); do
        pid=$(pid_of "$part") || return 0
        kill "-$1" "$pid" 2>/dev/null || :
        await "$2" is_down "$part" || :
        shift 2
    done
    is_down "$part" || die "$part (process $pid) does not end"
}

is_down() {
    ! pid_of "$1" >/dev/null
}

# processes_in FOLDER NAME: the processes of that name that work in that folder.
processes_in() {
    local process
    for process in /proc/[0-9]*; do
        if [[ $process/cwd -ef $1 && $(cat "$process/comm" 2>/dev/null) == "$2" ]]; then
            printf '%s ' "${process#/proc/}"
        fi
    done
}

none_in() {
    [[ -z $(processes_in "$@") ]]
}
