# The worker's socket, spoken to without nginx. What is broken on purpose is in ../faults/sockets.bats.

setup() {
    load common
    use_instance shared
    set_worker_env
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$BATS_TEST_TMPDIR/socket"
}

teardown() {
    [[ ! -e $state/nginx/receiptd-server.conf.more ]] || with_buffering
    ended "$worker" || end_worker
}

# fastcgi: runs the Python on standard input; fastcgi.py has what it can use.
fastcgi() {
    PYTHONPATH=$e2e:$root/tests/faults python3 <(echo 'from fastcgi import *' && cat) "$BATS_TEST_TMPDIR/socket" 3>&-
}

@test "a hundred deliveries over one connection, with bodies of one and of many records" {
    fastcgi <<'END'
client = Client(path)
for number in range(100):
    assert post(client, new_body(number * number * 10)).startswith("Status: 201 ")
END
}

@test "a connection that is not to be kept is closed after the answer" {
    fastcgi <<'END'
client = Client(path)
assert post(client, new_body(), keep=False).startswith("Status: 201 ")
assert client.socket.recv(1) == b""
END
}

@test "a request id that is not one of nginx's is replaced by a random one" {
    fastcgi <<'END'
client = Client(path)
given = secrets.token_hex(16)

def told(request_id):
    return post(client, new_body(), REQUEST_ID=request_id).split("X-Request-Id: ")[1].split("\r\n")[0]

assert told(given) == given
others = [None, "", given[:-1], given + "0", given.upper(), given[:-1] + "g", "-" * 32, given[:30] + "\r\n"]
answered = {told(other) for other in others}
assert len(answered) == len(others) and not answered & {given, *others}, answered
assert {len(request_id) for request_id in answered} == {32}, answered
END
}

@test "a request that is passed on again, as nginx does it, is told what it was told, and changes nothing" {
    fastcgi <<'END'
first, second = new_body(), new_body()
created, revised = secrets.token_hex(16), secrets.token_hex(16)
other = first.replace(b'"sku"', b'"added": 1, "sku"')
client = Client(path)

def told(body, request_id):
    text = post(client, body, REQUEST_ID=request_id)
    return text[8:11], text.split('"result":"')[1].split('"')[0]

for _ in range(2):
    assert told(first, created) == ("201", "created")
for _ in range(2):
    assert told(other, revised) == ("200", "revised")
assert told(first, created) == ("201", "created")
assert told(other, secrets.token_hex(16)) == ("200", "unchanged")
assert told(second, secrets.token_hex(16)) == ("201", "created")
END
}

@test "SIGTERM: what has reached the worker is stored and answered, and it ends with status 0" {
    sql 'begin; lock table inventory.receipts in access exclusive mode; select pg_sleep(1); commit' >/dev/null &
    eventually 5 receipts_locked
    fastcgi <<END
clients = [Client(path) for _ in range(20)]
for client in clients:
    client.socket.sendall(request(new_body()))
time.sleep(0.3)
os.kill($worker, signal.SIGTERM)
for client in clients:
    assert client.receive_text().startswith("Status: 201 ")
END
    wait "$worker"
    [[ ! -e $BATS_TEST_TMPDIR/socket ]]
}

receipts_locked() {
    [[ $(sql "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted
        and relation = 'inventory.receipts'::regclass") == 1 ]]
}

@test "SIGTERM: a request that is on its way has its time to arrive, and is answered" {
    fastcgi <<END
wholes = [request(new_body(size)) for size in (0, 100_000)]
clients = [Client(path) for _ in range(4)]
for client, whole in zip(clients, wholes):
    client.socket.sendall(whole[: len(whole) // 2])
clients[2].socket.sendall(wholes[0][:100])
time.sleep(0.3)
os.kill($worker, signal.SIGTERM)
assert clients[3].socket.recv(1) == b"", "who is idle is sent away"
time.sleep(1)
for client, whole in zip(clients, wholes):
    client.socket.sendall(whole[len(whole) // 2 :])
    assert client.receive_text().startswith("Status: 201 ")
    assert client.socket.recv(1) == b""
assert clients[2].socket.recv(1) == b"", "who does not finish is not waited for for ever"
END
    wait "$worker"
}

@test "a body that is longer or shorter than it was said to be is no delivery" {
    fastcgi <<'END'
body = new_body()
for length in (len(body) + 1, len(body) - 1, 0, -1, "x"):
    client = Client(path)
    client.socket.sendall(request(body, CONTENT_LENGTH=str(length)))
    assert client.socket.recv(1) == b"", length
assert post(Client(path), body, CONTENT_LENGTH=None).startswith("Status: 201 ")
assert post(Client(path), body, CONTENT_LENGTH="").startswith("Status: 200 ")
END
}

@test "parameters and body in records of one byte" {
    fastcgi <<'END'
body = new_body()
client = Client(path)
for status in ("201", "200"):
    client.socket.sendall(request(body, record_size=1))
    assert client.receive_text().startswith(f"Status: {status} ")
END
}

@test "padding behind every record" {
    fastcgi <<'END'
client = Client(path)
for length in (1, 8, 255):
    for size in (100, 65535):
        client.socket.sendall(padded(request(new_body(20_000), record_size=size), length))
        assert client.receive_text().startswith("Status: 201 ")
END
}

@test "clients that send bit by bit, more than there are threads, do not keep others waiting, and are answered" {
    fastcgi <<'END'
def pieces(data, first):
    return [data[:first], *(data[at : at + 20] for at in range(first, len(data), 20))]

# Some begin with little more than a header, some with a part of the body.
slow = [(Client(path), pieces(request(new_body(), record_size=100), first)) for first in (20, 900) * 4]
for number in range(max(len(parts) for _, parts in slow)):
    for client, parts in slow:
        client.socket.sendall(b"".join(parts[number : number + 1]))
    if number % 10 == 0:
        served(path, seconds=3.0)
for client, _ in slow:
    assert client.receive_text().startswith("Status: 201 ")
END
}

@test "clients that hang up before their answer do not disturb the others of their batch" {
    fastcgi <<'END'
for _ in range(20):
    clients = [Client(path) for _ in range(10)]
    for client in clients:
        client.socket.sendall(request(new_body()))
    for client in clients[::2]:
        client.close()
    for client in clients[1::2]:
        assert client.receive_text().startswith("Status: 201 ")
END
}

@test "the most deeply nested body, where threads have little stack unless they are given more" {
    end_worker
    local limit
    limit=$(ulimit -Ss)
    ulimit -Ss 128
    start_worker "$BATS_TEST_TMPDIR/log" -- --listen "$BATS_TEST_TMPDIR/socket"
    ulimit -Ss "$limit"
    fastcgi <<'END'
def told(nested):
    text = post(Client(path), contract.to_json(contract.sample(unit_identifier=secrets.token_hex(16)))[:-1] + nested)
    return text.split("Status: ")[1][:3]

# 2,048 levels are what the parser takes.
for begin, end in ((b"[", b"]"), (b'{"a":', b"}")):
    assert told(b',"deep":' + begin * 2046 + b"1" + end * 2046 + b"}") == "201"
    assert told(b',"deep":' + begin * 2048 + b"1" + end * 2048 + b"}") == "400"
    assert told(b',"deep":' + begin * 100_000) == "400"
END
}

@test "slow senders through nginx: their requests are whole when a worker gets them, and it is right when they are not" {
    without_buffering
    fastcgi <<'END'
began = time.monotonic()
slow = [Sender("/inventory_receipt", 9, size) for size in (0, 100_000) * 5]
cut_off = [Sender("/unbuffered", 9, size) for size in (0, 100_000) * 10]
patient = [Sender("/unbuffered", 5, size) for size in (0, 100_000) * 5]
while time.monotonic() - began < 8:
    for where in ("/inventory_receipt", "/unbuffered"):
        for padding in (0, 100_000):
            other = Sender(where, 0, padding)
            other.join(1)
            assert other.status == "201", (where, padding, other.status)
    time.sleep(0.1)
for senders, status in ((slow, "201"), (cut_off, "502"), (patient, "201")):
    for sender in senders:
        sender.join()
    assert {sender.status for sender in senders} == {status}, [sender.status for sender in senders]
END
}

# nginx of the instance passes requests on as they come: all of http { }, but for what the pieces to include say, and at
# /unbuffered in spite of it.
without_buffering() {
    local config=$state/nginx/receiptd-server.conf
    sed -i 's/^http {/&\n    fastcgi_request_buffering off;/' "$state/nginx.conf"
    sed -n '/^location = .inventory_receipt {/,/^}/p' "$config" |
        sed 's,/inventory_receipt {,/unbuffered {,; s/request_buffering on/request_buffering off/' >"$config.more"
    cat "$config.more" >>"$config"
    kill -HUP "$(<"$state/run/nginx.pid")"
    eventually 10 unbuffered
}

# Its configuration is as it was.
with_buffering() {
    rm "$state/nginx/receiptd-server.conf.more"
    start_instance shared RECEIPTD_THREADS=2
    eventually 10 not_unbuffered
}

not_unbuffered() {
    ! unbuffered
}

unbuffered() {
    request "${RECEIPTD_URL%/*}/unbuffered" && [[ $code == 405 ]]
}
