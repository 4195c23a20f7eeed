-- What wrk delivers: new receipts, with some repeated, some revised and some refused. Arguments: key, a word that no
-- other run uses.

local thread_count = 0

function setup(thread)
    thread_count = thread_count + 1
    thread:set("number", thread_count)
end

function init(arguments)
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["X-Api-Key"] = arguments[1]
    body = '{"program_identifier":"soak","asn_number":"' .. arguments[2] .. '-' .. number .. '",' ..
        '"unit_identifier":%d,' ..
        '"shipment_identifier":"SH-0001","from":{"identifier":1234,"type":"Ecom"},"to":{"identifier":5,' ..
        '"type":"Warehouse","original_identifier":"W5"},"sku":%s,"upc":12345678905,"initial_condition":"%s",' ..
        '"initial_channel":"Store","ot_user_login":"somebody@example.com","tracking_number":9400000000000000000000,' ..
        '"return_reason":"does not fit","version":%d}'
    count = 0
end

function request()
    count = count + 1
    local unit, version, sku, condition = count, 0, '"S1"', "N"
    if count % 20 == 0 then
        unit = count - 10
    elseif count % 20 == 5 then
        unit, version = count - 1, 1
    elseif count % 50 == 1 then
        sku, condition = "1.5", "?"
    end
    return wrk.format(nil, nil, nil, body:format(unit, sku, condition, version))
end

function response(status)
    if status ~= 200 and status ~= 201 and status ~= 422 then
        print("status " .. status)
    end
end
