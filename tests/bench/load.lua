-- The load, for wrk: load.lua SAMPLE KEY MODE RUN ASNS, with CONNECTIONS in the environment
--
-- Bodies are the vendor's example (SAMPLE) with keys of their own. MODE:
--   new      a key that was never sent; RUN, a number up to 99999, tells one run's units from another's
--   known    one of 2,000 keys of this thread, always with the same content
--   revised  the same keys, with content that was never sent
--   half     as new, but every other delivery is refused with 422: it has no sku
-- ASNS, as 1000-2000, is the range that ASN numbers are drawn from: units come in for 32 ASNs at a time in a thread,
-- each of 1 to 500 units, most of them small.
--
-- Prints one line of JSON at the end.

local docks, known = 32, 2000
local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init(args)
    local sample, key, run, asns = args[1], args[2], args[4], args[5]
    mode = args[3]
    first_asn, last_asn = asns:match("(%d+)-(%d+)")
    math.randomseed(run * 64 + number)
    count, asn, left = 0, {}, {}
    for dock = 1, docks do
        left[dock] = 0
    end

    local body = io.open(sample):read("*a"):gsub("%s*\n%s*", "")
    body = body:gsub("%%", "%%%%")
    body = body:gsub('("asn_number": )"[^"]*"', '%1"SO%%08d"')
    body = body:gsub('("unit_identifier": )%d+', string.format("%%1%d%05d%%%%07d", number + 1, run))
    body = body:gsub('("location_identifier": )"[^"]*"', '%1"Pallet %%07d"')
    local request = "POST %s HTTP/1.1\r\nHost: %s\r\nX-Api-Key: %s\r\nContent-Type: application/json\r\n"
        .. "Content-Length: %d\r\n\r\n%s"
    local function whole(text)
        return request:format(wrk.path, wrk.headers["Host"], key, #text:format(0, 0, 0), text)
    end
    good, bad = whole(body), whole((body:gsub('"sku": "[^"]*",', "")))
end

-- The ASN of the next unit of a dock.
local function next_asn()
    local dock = math.random(docks)
    if left[dock] == 0 then
        asn[dock], left[dock] = math.random(first_asn, last_asn), math.ceil(500 ^ math.random())
    end
    left[dock] = left[dock] - 1
    return asn[dock]
end

function request()
    count = count + 1
    local unit = count % known
    if mode == "known" then
        return good:format(math.floor(unit / 100), unit, 0)
    elseif mode == "revised" then
        return good:format(math.floor(unit / 100), unit, count)
    elseif mode == "half" and count % 2 == 0 then
        return bad:format(next_asn(), count, 0)
    end
    return good:format(next_asn(), count, 0)
end

-- The times as they were. To those above twice the mean interval of a connection's requests, wrk adds made-up ones, for
-- requests that a steady sender would have sent meanwhile (wrk: stats_correct); pgbench does not. It adds to smaller
-- ones only, so going down from the largest takes them out again.
local function measured_times(latency, interval)
    local counts, times = {}, {}
    for i = 1, #latency do
        local time, count = latency(i)
        counts[time], times[i] = count, time
    end
    table.sort(times)
    for i = #times, 1, -1 do
        if times[i] < 2 * interval then
            break
        end
        for less = times[i] - interval, interval + 1, -interval do
            counts[less] = counts[less] - counts[times[i]]
        end
    end
    return times, counts
end

function done(summary, latency)
    local cpu = os.clock() -- of all threads; what follows can take a second of its own
    local connections, errors = tonumber(os.getenv("CONNECTIONS")), summary.errors
    local each = math.floor(summary.requests / connections)
    local times, counts = measured_times(latency, each > 0 and math.floor(summary.duration / each) or math.huge)
    local total, passed, p50, p99 = 0, 0, nil, nil
    for _, time in ipairs(times) do
        total = total + counts[time]
    end
    for _, time in ipairs(times) do
        passed = passed + counts[time]
        p50 = p50 or passed >= total * 0.5 and time or nil
        p99 = p99 or passed >= total * 0.99 and time or nil
    end
    io.write(string.format(
        '{"requests": %d, "times": %d, "seconds": %.6f, "cpu": %.6f, "p50": %d, "p99": %d, "refused": %d, '
        .. '"errors": %d}\n',
        summary.requests, total, summary.duration / 1e6, cpu, p50 or 0, p99 or 0,
        errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
