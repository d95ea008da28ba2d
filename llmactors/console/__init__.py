"""The console: web pages for the people who look after a node. Gateways and workers serve the files as they are.

files   the files of the console, with their content types, ETags and security headers

`static/` holds one HTML page, its styles, and its scripts as modules, which the browser loads without a build step.
`static/app.js` starts the console, `static/views/` has one module for each view, and every other script is a part that
views use. All strings become text nodes: no script makes HTML of strings, and the content security policy forbids
browsers to do so.
"""
