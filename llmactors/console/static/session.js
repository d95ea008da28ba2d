// Who looks at the console, and what this node shows: the answer of GET /v1/operator/session.

import {get, post, remove, Refused} from "./api.js";

const PATH = "/v1/operator/session";

// {operator, keys, drills, node, version, readOnly}. A worker's port for operators only shows things.
export async function askSession() {
    const session = await get(PATH);
    return {...session, readOnly: session.operator && await isWorker(session.node)};
}

async function isWorker(name) {
    try {
        const {nodes} = await get("/v1/operator/nodes");
        const own = nodes.find(each => each.name === name);
        return own !== undefined && !own.roles.includes("gateway");
    } catch (error) {
        if (error instanceof Refused) return false;
        throw error;
    }
}

export const signIn = key => post(PATH, {key});
export const signOut = () => remove(PATH);
