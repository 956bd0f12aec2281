-- What nginx's own directives cannot do for deploy/nginx.conf: refuse by name what TorchServe drops
-- without a word, and put TorchServe's token, which changes while it runs, in the place of a client's key.

local proxy = {
  key_file = nil, -- the path of TorchServe's tokens: nginx.conf sets it
}

local requests = ngx.shared.requests -- id of a request in work -> the token that it was refused with

-- Headers of which TorchServe reads one, however often they come; beside them all X-D2serve-*.
local once = {}
for name in ([[authorization content-encoding content-type inference-header-content-length
               traceparent x-api-key x-request-deadline]]):gmatch("%S+") do
  once[name] = true
end

local function refuse(code, message)
  ngx.req.discard_body() -- or what follows on the connection would be read as a request
  ngx.status = ngx.HTTP_BAD_REQUEST
  ngx.header.content_type = "application/json"
  ngx.print(('{"error": {"code": "%s", "message": "%s"}, "request_id": "%s"}\n'):format(
    code, message, ngx.var.request_id))
  return ngx.exit(ngx.HTTP_OK) -- of this function: the status above stays
end

local function shown(name)
  return (name:gsub("[^%w_.-]", "?"):sub(1, 40))
end

-- Of a request over HTTP whose client is known. A form field that is given twice is not seen here: the
-- whole body would have to be read for it.
function proxy.admit()
  if ngx.var.is_args ~= "" then
    local options = ngx.req.get_uri_args(1)
    local name = next(options) or ""
    return refuse("query_not_read", "Got '" .. shown(name) .. "' behind the ? of the address, which " ..
      "TorchServe drops. Expected options as form fields, as JSON or as headers, such as " ..
      "X-D2serve-score_thresh: 0.8")
  end
  local headers, more = ngx.req.get_headers(100)
  if more then
    return refuse("too_many_headers", "Got more than 100 headers, expected fewer.")
  end
  for name, value in pairs(headers) do
    if type(value) == "table" and (once[name] or name:find("^x%-d2serve%-")) then
      return refuse("given_twice", "Got the header " .. shown(name) .. " " .. #value .. " times, of " ..
        "which TorchServe reads one. Expected it once.")
    end
  end
  requests:set(ngx.var.request_id, "")
end

function proxy.forget()
  requests:delete(ngx.var.request_id)
end

local function token_in_file()
  local file = io.open(proxy.key_file)
  local text = file and file:read("*a")
  if file then file:close() end
  return text and text:match('"inference"%s*:%s*{[^}]*"key"%s*:%s*"([^"]+)"')
end

-- While TorchServe renews, the old token is dead and the file is empty or old for some milliseconds:
-- another token than the refused one is waited for, two seconds at most.
local function add_token(refused)
  for _ = 1, 100 do
    local token = token_in_file()
    if token and token ~= refused then
      ngx.ctx.token = token
      return ngx.req.set_header("Authorization", "Bearer " .. token)
    end
    ngx.sleep(0.02)
  end
  if refused then -- it was not the token, then
    return ngx.req.set_header("Authorization", "Bearer " .. refused)
  end
  ngx.log(ngx.ERR, "no inference token in ", proxy.key_file, ": does `d2serve serve` run, and may the ",
    "user that nginx runs as read it?")
  return ngx.exit(ngx.HTTP_SERVICE_UNAVAILABLE)
end

-- Over HTTP, where nginx speaks to itself: nobody else knows the id of a request in work.
function proxy.add_token_for_http()
  local id = ngx.var.http_x_proxy_request
  local refused = id and requests:get(id)
  if not refused then
    return ngx.exit(ngx.HTTP_FORBIDDEN)
  end
  ngx.ctx.is_first_try = refused == ""
  add_token(not ngx.ctx.is_first_try and refused or nil)
end

-- TorchServe's InvalidKeyException, and an answer of the model hardly ever, is a 400 of 154 bytes. Made
-- a 429, which TorchServe never gives, it is asked once more.
function proxy.mark_refused_token()
  if ngx.status ~= 400 or ngx.header.content_length ~= "154" then
    return
  end
  if ngx.ctx.is_first_try then
    requests:set(ngx.var.http_x_proxy_request, ngx.ctx.token)
    ngx.status = 429
  else
    ngx.log(ngx.ERR, "refused twice; if this is TorchServe's InvalidKeyException: is ", proxy.key_file,
      " of the server behind this proxy, and does `d2serve serve` renew it?")
  end
end

function proxy.add_token_for_grpc()
  add_token(nil)
end

-- nginx sends no call of gRPC twice. PERMISSION_DENIED is of our token here and none of the client's
-- business: UNAVAILABLE has clients ask again.
function proxy.tell_to_ask_again()
  if ngx.header["grpc-status"] == "7" then
    ngx.header["grpc-status"] = "14"
    ngx.header["grpc-message"] = "nothing was begun, as the proxy's token is being renewed: ask again."
  end
end

-- The Open Inference Protocol's answer to "live" and "ready" of what the probe address says.
function proxy.drop_length()
  ngx.header.content_length = nil
end

function proxy.say_only(word)
  ngx.arg[1] = ngx.arg[2] and ('{"%s": %s}\n'):format(word, ngx.status == ngx.HTTP_OK) or nil
end

return proxy
