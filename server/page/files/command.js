// The curl that asks the same. It reads the token from the key file when it runs: none is shown.

export function curlFor({ model, version, served: { curl } }, name) {
  const path = [model, ...(version ? [version] : [])].map(encodeURIComponent).join("/");
  const plain = /[[\]{}]/.test(name) ? "--globoff " : ""; // curl takes them for patterns
  const file = /^-|^\.$/.test(name) ? `./${name}` : name;
  return `${curl.start}${plain}-T ${quoted(file)} ${curl.address}/predictions/${path}`;
}

function quoted(text) {
  return /^[\w./,+@%-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
