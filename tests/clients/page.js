// What the tests run inside a page of the browser. Each function returns a promise of something that JSON can hold.

// The status and the text of an answer that the page may read; the name of the error where it may not.
async function ask(url, options) {
    const answer = await fetch(url, options);
    return [answer.status, await answer.text()];
}

// Sends POST requests in all ways that need no permission of the other server.
async function sendBlindly(url, body) {
    await fetch(url, {method: "POST", mode: "no-cors", body}).catch(() => null);
    await fetch(url, {method: "POST", mode: "no-cors", body, credentials: "include"}).catch(() => null);
    navigator.sendBeacon(url, body);
    const frame = document.createElement("iframe");
    frame.name = "target";
    document.documentElement.append(frame);
    const form = document.createElement("form");
    form.method = "POST";
    form.action = url;
    form.enctype = "text/plain";
    form.target = "target";
    const field = document.createElement("input");
    field.name = body.slice(0, -1) + ', "ignored": "';
    field.value = '"}';
    form.append(field);
    document.documentElement.append(form);
    const loaded = new Promise(resolve => frame.addEventListener("load", resolve));
    form.submit();
    await Promise.race([loaded, new Promise(resolve => setTimeout(resolve, 1000))]);
    const sandbox = document.createElement("iframe");
    sandbox.sandbox = "allow-scripts";
    sandbox.srcdoc = `<script>fetch(${JSON.stringify(url)}, {method: "POST", mode: "no-cors",
        body: ${JSON.stringify(body)}})</` + "script>";
    document.documentElement.append(sandbox);
    await new Promise(resolve => setTimeout(resolve, 500));
    return "sent";
}

// The ids of the events of a streamed answer, with the headers that the page can read. Stops after `most` ids.
async function stream(url, body, headers = {}, most = 1e9) {
    const abort = new AbortController();
    const answer = await fetch(url, {
        method: "POST",
        headers: {"content-type": "application/json", ...headers},
        body: JSON.stringify(body),
        signal: abort.signal,
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const began = performance.now();
    let text = "", firstAt = null;
    for (;;) {
        const {done, value} = await reader.read();
        if (done) break;
        firstAt ??= performance.now() - began;
        text += value;
        if ((text.match(/^id: /gm) || []).length >= most) {
            abort.abort();
            break;
        }
    }
    return {
        status: answer.status,
        ids: [...text.matchAll(/^id: (\d+)$/gm)].map(match => Number(match[1])),
        pieceMs: performance.now() - began - firstAt,
        requestId: answer.headers.get("x-request-id"),
        retryAfter: answer.headers.get("retry-after"),
        shouldRetry: answer.headers.get("x-should-retry"),
        remaining: answer.headers.get("x-ratelimit-remaining-requests"),
    };
}

// The ids of the events that an EventSource receives until the stream ends, and how often it had to connect.
function listen(url) {
    return new Promise(resolve => {
        const source = new EventSource(url);
        const ids = [];
        let opened = 0;
        const end = how => {
            source.close();
            resolve({ids, opened, how});
        };
        source.onopen = () => { opened += 1; };
        source.addEventListener("token", event => ids.push(Number(event.lastEventId)));
        source.addEventListener("done", event => {
            ids.push(Number(event.lastEventId));
            end("done");
        });
        source.onerror = () => {
            if (source.readyState === EventSource.CLOSED) end("refused");
        };
    });
}

// The events of one request on a WebSocket; `refused` where it does not open.
function socket(url, message) {
    return new Promise(resolve => {
        const opened = new WebSocket(url);
        const events = [];
        opened.onopen = () => opened.send(JSON.stringify(message));
        opened.onmessage = event => {
            events.push(JSON.parse(event.data).event);
            if (["done", "error"].includes(events.at(-1))) {
                opened.onclose = null;
                opened.close();
                resolve(events);
            }
        };
        opened.onclose = () => resolve("refused");
    });
}

// All events of several requests on one WebSocket that never connects again; `cut` where it ends before they do.
function sockets(url, prompts, tokens) {
    return new Promise(resolve => {
        const opened = new WebSocket(url);
        const prompt = {}, found = {};
        let left = prompts.length;
        opened.onopen = () => prompts.forEach(each => opened.send(JSON.stringify({
            op: "generate", prompt: each, max_tokens: tokens, ref: each,
        })));
        opened.onmessage = message => {
            const event = JSON.parse(message.data);
            if (event.event === "accepted") {
                prompt[event.id] = event.ref;
                found[event.ref] = {seqs: [], text: ""};
            } else if (event.event !== "queued") {
                found[prompt[event.id]].seqs.push(event.seq);
                found[prompt[event.id]].text += event.text ?? "";
                left -= event.event !== "token";
                if (!left) {
                    opened.onclose = null;
                    opened.close();
                    resolve(found);
                }
            }
        };
        opened.onclose = event => resolve(`cut: ${event.code}`);
    });
}
