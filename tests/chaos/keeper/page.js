// What the page of `browser.py` does: asks again and again, and gathers what comes, or how it was cut. It never asks a
// second time for the same answer.

async function begin(kind, number, host, asked) {
    const keeper = window.keeper;
    const ways = {"Chromium fetch": byFetch, "Chromium EventSource": byEventSource, "Chromium WebSocket": byWebSocket};
    const state = {};
    keeper.open += 1;
    for (let turn = number; !keeper.ends; turn += 1) {
        const [shape, path, template, fixed] = asked[turn % asked.length];
        const prompt = fixed || `${kind.replace(" ", "-")} ${number} ${turn}`;
        const found = {kind, shape, prompt, heard: [], body: "", fault: ""};
        try {
            await ways[kind](host, path, template.replaceAll("PROMPT", prompt), found, state);
        } catch (error) {
            found.fault = `cut: ${error.name}: ${error.message}`;
        }
        keeper.results.push(found);
        if (found.fault) await new Promise(resolve => setTimeout(resolve, 500));
    }
    if (state.socket) {
        state.socket.onclose = null;
        state.socket.close();
    }
    keeper.open -= 1;
}

function post(host, path, body, signal) {
    return fetch(`http://${host}${path}`, {method: "POST", headers: {"content-type": "application/json"}, body, signal});
}

async function byFetch(host, path, body, found) {
    const answer = await post(host, path, body);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
        const {done, value} = await reader.read();
        if (done) break;
        found.heard.push(Date.now());
        found.body += value;
    }
    if (answer.status !== 200) found.fault = `refusal: ${answer.status} ${found.body}`;
}

// An EventSource can only follow a stream. So the request is made by a fetch that the page leaves at once.
async function byEventSource(host, path, body, found) {
    const leave = new AbortController();
    const answer = await post(host, path, body, leave.signal);
    if (answer.status !== 200) {
        found.fault = `refusal: ${answer.status} ${await answer.text()}`;
        return;
    }
    const id = answer.headers.get("x-request-id");
    leave.abort();
    found.body = "retry: 1000\n\n";
    await new Promise(resolve => {
        const source = new EventSource(`http://${host}/v1/streams/${id}`);
        const end = fault => {
            source.close();
            found.fault = fault;
            resolve();
        };
        const note = event => {
            found.heard.push(Date.now());
            found.body += `id: ${event.lastEventId}\nevent: ${event.type}\ndata: ${event.data}\n\n`;
        };
        source.addEventListener("token", note);
        source.addEventListener("done", event => {
            note(event);
            end("");
        });
        // EventSource connects again by itself after a cut, and gives up after an answer that is no stream.
        source.onerror = event => {
            const wasRefused = event.data || source.readyState === EventSource.CLOSED;
            end(wasRefused ? `refusal: ${event.data || "no stream"}` : "cut: the EventSource lost its connection");
        };
    });
}

// One WebSocket carries one request after the other.
async function byWebSocket(host, path, body, found, state) {
    if (!state.socket) {
        state.socket = new WebSocket(`ws://${host}/v1/ws`);
        await new Promise((resolve, reject) => {
            state.socket.onopen = resolve;
            state.socket.onclose = () => {
                state.socket = null;
                reject(new Error("the WebSocket did not open"));
            };
        });
    }
    const {stream, ...fields} = JSON.parse(body);
    found.body = "retry: 1000\n\n";
    await new Promise(resolve => {
        const end = fault => {
            found.fault = fault;
            resolve();
        };
        state.socket.onclose = event => {
            state.socket = null;
            end(`cut: the WebSocket was closed with ${event.code}`);
        };
        state.socket.onmessage = message => {
            const {event, ...data} = JSON.parse(message.data);
            if (event === "error") end(`refusal: ${message.data}`);
            if (event !== "token" && event !== "done") return;
            found.heard.push(Date.now());
            found.body += `id: ${data.seq}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
            if (event === "done") end("");
        };
        state.socket.send(JSON.stringify({op: "generate", ...fields}));
    });
}
