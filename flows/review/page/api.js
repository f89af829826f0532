// Talking to the server. Every answer is JSON; one that is refused becomes a Refused with the server's words.

export class Refused extends Error {
  constructor(status, facts) {
    super(facts.error || `the server answered ${status}`);
    this.status = status;
    this.facts = facts;
  }
}

// The server did not answer at all, or is not itself: try again later.
export class Unreachable extends Error {}

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-cache", ...options });
  } catch {
    throw new Unreachable("the server does not answer");
  }
  const facts = await response.json().catch(() => ({}));
  if (response.status >= 500) throw new Unreachable(facts.error || `the server answered ${response.status}`);
  if (!response.ok) throw new Refused(response.status, facts);
  return facts;
}

export const read = (path, annotator) =>
  answer(`${path}${annotator === undefined ? "" : `?${new URLSearchParams({ annotator })}`}`);

export const send = (path, body, headers = {}) =>
  answer(path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
    keepalive: true,
  });
