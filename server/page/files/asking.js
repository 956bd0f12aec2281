// Requests to the page's own server. The key behind the # of the address goes with each.

export class Failure extends Error {}

// What is answered, as `kind`: "text" or "blob".
export async function ask(path, options = {}, kind = "text") {
  const key = location.hash.slice(1);
  const headers = { "X-D2serve-Page": key, ...options.headers };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("No answer: `d2serve serve` has ended, or has closed the connection.");
  }
  if (!response.ok) throw new Failure(inWords(response.status, await response.text()));
  return response[kind]();
}

// Errors as they are: of the archive, of TorchServe and of the page's server.
function inWords(status, text) {
  try {
    const said = JSON.parse(text);
    const { code, message } = said.error ?? { code: said.type, message: said.message };
    const id = said.request_id ? `\nrequest ${said.request_id}` : "";
    return `${status} ${code}\n${message}${id}`;
  } catch {
    return `${status}\n${text.slice(0, 1000)}`;
  }
}
