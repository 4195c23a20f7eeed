# nginx and two workers on w1 and w2, HAProxy on proxy, pgbouncer on w1 and w2; sourced by run.
# shellcheck shell=bash disable=SC2034,SC2154 # what run sets, and what it uses

worker_hosts=(w1 w2)

# Sets api_key; its digest goes into a file for the workers, as does a certificate for nginx.
make_secrets() {
    local text
    text=$("$worker" key cluster)
    api_key=$(sed -n 2p <<<"$text" | tr -d ' ')
    tail -n 1 <<<"$text" | sed 's/^ *//' >"$scratch/keys"
    install -d -m 755 "$scratch/tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
        -addext "subjectAltName = IP:${address[w1]}, IP:${address[w2]}, IP:127.0.0.1" \
        -keyout "$scratch/tls/server.key" -out "$scratch/tls/server.crt" 2>/dev/null
    ((EUID != 0)) || chown -R "$server_user:" "$scratch/tls" "$scratch/keys"
}

make_worker_host() {
    local folder=$scratch/$1
    install -d -o "$server_user" -m 755 "$folder" "$folder"/{log,run,tmp,nginx}
    ln -s ../tls "$folder/tls"
    install -m 755 "$worker" "$folder/receiptd"
    install -m 755 "$root/deploy/keep-running" "$folder/keep-running"
    # systemd reads the file, in real life.
    cat >"$folder/worker" <<END
#!/bin/bash
mapfile -t settings <$folder/receiptd.env
exec env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 NOTIFY_SOCKET="\$NOTIFY_SOCKET" WATCHDOG_USEC="\$WATCHDOG_USEC" \\
    "\${settings[@]}" $folder/receiptd "\$@"
END
    chmod 755 "$folder/worker"
    sed -e 's/127\.0\.0\.1:8443/8443/' -e 's/worker_processes auto/worker_processes 1/' "$root/nginx/example.conf" \
        >"$folder/nginx.conf"
    sed "s,/run/receiptd/,$folder/run/,g" "$root/nginx/receiptd-http.conf" >"$folder/nginx/receiptd-http.conf"
    sed "s,/var/log/nginx/,$folder/log/,g" "$root/nginx/receiptd-server.conf" >"$folder/nginx/receiptd-server.conf"
    sed "s,/run/receiptd/,$folder/run/,g; s,/etc/receiptd/,$folder/nginx/," "$root/nginx/receiptd-health.conf" \
        >"$folder/nginx/receiptd-health.conf"
    cp "$root/nginx/health-allow.conf" "$folder/nginx/"
}

# start_worker_host HOST
start_worker_host() {
    local n
    rm -f "$scratch/$1"/run/*
    for n in 1 2; do
        daemon "$1" "worker-$n" "$scratch/$1/keep-running" "$scratch/$1/run/worker-$n" "$scratch/$1/worker" \
            --listen "$scratch/$1/run/worker-$n.sock"
    done
    daemon "$1" nginx nginx -p "$scratch/$1/" -c "$scratch/$1/nginx.conf" -e "$scratch/$1/log/nginx-error.log" \
        -g 'daemon off;'
}

# settings NAME=VALUE...: the block of the page for the workers, with these instead of those of the same names.
settings() {
    local setting text
    text=$(page_block /etc/receiptd/receiptd.env | grep -v '^#')
    for setting in RECEIPTD_KEYS_FILE="$scratch/keys" PGPASSFILE="$scratch/pgpass" "$@"; do
        text=$(grep -v "^${setting%%=*}=" <<<"$text")$'\n'$setting
    done
    printf '%s\n' "$text"
}

# configure_workers NAME=VALUE...: their environment. Those whose environment that is not are drained and replaced.
configure_workers() {
    local host n text
    text=$(settings "$@")
    for host in "${worker_hosts[@]}"; do
        [[ $(cat "$scratch/$host/receiptd.env" 2>/dev/null) != "$text" ]] || continue
        printf '%s\n' "$text" >"$scratch/$host/receiptd.env"
        for n in 1 2; do
            ! runs "$host" "worker-$n" || replace_worker "$host" "$n"
        done
    done
}

# replace_worker HOST N
replace_worker() {
    local old file=$scratch/$1/run/worker-$2.pid
    old=$(<"$file")
    kill -TERM "$old"
    await 20 has_other "$file" "$old" || die "the worker $1/$2 is not replaced"
}

has_other() {
    [[ -s $1 && $(<"$1") != "$2" ]]
}

# order HOST...: PGHOST with the addresses of these.
order() {
    local host list=
    for host in "$@"; do
        list+=${list:+,}${address[$host]}
    done
    echo "PGHOST=$list"
}

# health HOST PAGE: what nginx of that host answers to its operator.
health() {
    on "$1" curl -q -s -m 4 --cacert "$scratch/tls/server.crt" "https://127.0.0.1:8443/receiptd/$2"
}

is_ready() {
    [[ $(health "$1" ready) == '{"ready":true'* ]]
}

all_ready() {
    local host
    for host in "${worker_hosts[@]}"; do
        is_ready "$host" || return 1
    done
}

start_haproxy() {
    install -d -o "$server_user" "$scratch/proxy"
    page_block /etc/haproxy/haproxy.cfg >"$scratch/proxy/haproxy.cfg"
    rm -f "$scratch/proxy/haproxy.log"
    daemon proxy haproxy haproxy -db -f "$scratch/proxy/haproxy.cfg"
    # Until it has asked them, it takes all for primaries.
    eventually 20 knows_primary || die "HAProxy: $(tail -n 5 "$scratch/proxy/haproxy.log")"
}

knows_primary() {
    (($(grep -c ' is DOWN' "$scratch/proxy/haproxy.log") == ${#databases[@]} - 1))
}

# start_pgbouncer HOST: on a worker's host.
start_pgbouncer() {
    page_block /etc/pgbouncer/pgbouncer.ini | sed "s,/etc/pgbouncer/,$scratch/," >"$scratch/$1/pgbouncer.ini"
    daemon "$1" pgbouncer pgbouncer "$scratch/$1/pgbouncer.ini"
}
