# nginx of the local instance, with its port and certificate; sourced by deploy/local.
# shellcheck shell=bash disable=SC2154 # what deploy/local sets

# Sets port, once it is sure that nginx can have it.
choose_port() {
    local remembered='' listening=
    if [[ -f $var/env ]]; then
        remembered=$(sed -n 's|^RECEIPTD_URL=https://127\.0\.0\.1:\([0-9]*\)/.*|\1|p' "$var/env")
    fi
    # The file env is written when nginx has answered on that port.
    if [[ $remembered ]] && pid_of nginx >/dev/null; then
        listening=$remembered
    else
        end_nginx
    fi
    port=${PORT:-${remembered:-8443}}
    [[ $port =~ ^(0|[1-9][0-9]{0,4})$ && $port -le 65535 ]] || die "PORT=$port is not a port"
    [[ $port != 0 ]] || port=${listening:-0}
    if [[ $port != "$listening" ]]; then
        local asked=$port
        # shellcheck disable=SC2016 # it is Perl
        port=$("${as_run_user[@]}" perl -MIO::Socket::INET -e '
            my $socket = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $ARGV[0], Listen => 1,
                ReuseAddr => 1) or print(lcfirst $!) and exit 1;
            print $socket->sockport;' "$asked") ||
            die "port $asked on 127.0.0.1 cannot be used: $port. Nothing was changed. Choose another one with PORT=,
or any free one with PORT=0. (As root, ss -ltnp 'sport = :$asked' shows who has it.)"
    fi
}

make_certificate() {
    local did=kept
    if ! openssl x509 -in "$var/tls/server.crt" -noout -checkend $((30 * 86400)) >/dev/null 2>&1; then
        did=made
        : >"$run/nginx.changed"
        "${as_run_user[@]}" openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
            -subj /CN=localhost -addext 'subjectAltName = DNS:localhost, IP:127.0.0.1' \
            -keyout "$var/tls/server.key" -out "$var/tls/server.crt" >>"$var/log/start.log" 2>&1 ||
            die_with_log 'openssl could not make a certificate' "$var/log/start.log"
        chmod 0600 "$var/tls/server.key"
    fi
    report certificate "$did" "$link/tls/server.crt"
}

end_nginx() {
    end nginx QUIT 10 TERM 5 KILL 5
    # The processes of one that was killed still have the port.
    local orphans
    orphans=$(processes_in "$var" nginx)
    # shellcheck disable=SC2086 # process ids
    [[ -z $orphans ]] || kill $orphans 2>/dev/null || :
    await 5 none_in "$var" nginx || :
}

start_nginx() {
    local text n owner did=runs log=$var/log/nginx-error.log options
    owner=$(stat -c %U "$var")
    text=$(<"$root/nginx/receiptd-http.conf")
    for n in "${workers[@]}"; do
        text=${text//"unix:/run/receiptd/worker-$n.sock"/"\"unix:$run/worker-$n.sock\""}
    done
    put "$var/nginx/receiptd-http.conf" 0644 "$owner" nginx <<<"$text"
    text=$(<"$root/nginx/receiptd-server.conf")
    put "$var/nginx/receiptd-server.conf" 0644 "$owner" nginx <<<"${text//'/var/log/nginx/'/'log/nginx-'}"
    put "$var/nginx/health-allow.conf" 0644 "$owner" nginx <"$root/nginx/health-allow.conf"
    text=$(<"$root/nginx/receiptd-health.conf")
    text=${text/'/etc/receiptd/health-allow'/nginx/health-allow}
    # shellcheck disable=SC2016 # it is nginx's variable
    put "$var/nginx/receiptd-health.conf" 0644 "$owner" nginx <<<"${text/'unix:/run/receiptd/worker-$receiptd_worker.sock'/"\"unix:$run/worker-\$receiptd_worker.sock\""}"
    text=$(<"$root/nginx/example.conf")
    put "$var/nginx.conf" 0644 "$owner" nginx <<<"${text//'127.0.0.1:8443'/"127.0.0.1:$port"}"

    options=(-p "$var/" -c "$var/nginx.conf")
    # Since 1.19.5; older ones first try to open the log of the system's nginx, and complain.
    ! nginx -h 2>&1 | grep -q -e '-e filename' || options+=(-e "$log")
    "${as_run_user[@]}" nginx "${options[@]}" -t >>"$var/log/start.log" 2>&1 ||
        die_with_log 'nginx does not take its configuration' "$var/log/start.log"
    if ! pid_of nginx >/dev/null; then
        did=started
        (detached "$log" nginx "${options[@]}") || die_with_log 'nginx does not start' "$log"
    elif [[ -e $run/nginx.changed ]]; then
        did=reloaded
        kill -HUP "$(pid_of nginx)"
    fi
    await 120 reaches_worker || die_with_log "nginx does not reach the workers" "$log" "$var"/log/worker-*.log
    rm -f "$run/nginx.changed"
    report nginx "$did" "process $(pid_of nginx), https://127.0.0.1:$port"
}

# A GET is answered by a worker, with 405.
reaches_worker() {
    [[ $(client -o /dev/null -w '%{http_code}' || :) == 405 ]]
}

client() {
    curl -q -sS --noproxy '*' --max-time 20 --cacert "$var/tls/server.crt" "$@" \
        "https://127.0.0.1:$port/inventory_receipt" 2>/dev/null
}
