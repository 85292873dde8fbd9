// Package status is the page on which a postmaster sees how policyd is doing: whether
// DNSSEC and the resolvers work, what was answered in the last hour and day, whose mail
// waits and why, which MTA-STS policies are in danger, and which verdicts changed. It
// explains a domain on request.
//
//	handler := status.New(status.Options{Snapshot: d.snapshot, Explain: d.explain, Log: log})
//	mux.Handle("/", handler)
//
// It serves
//
//	GET /                     the page
//	GET /explain?domain=NAME  why a domain gets the verdict it gets, as "policyd explain" says it
//	GET /status.json          what the page shows, as a Snapshot in JSON
//	GET /style.css, /icon.svg
//
// Recorder and Deferrals collect what nobody else keeps: how many answers of each kind
// were given each minute, and which destinations mail waits for.
//
// # Who may look
//
// Whoever can connect: there is no login, and what is shown names domains that mail goes
// to. Nothing can be changed here. The handler is meant for package httpd's server, which
// turns away whom a name that somebody made to lead here (DNS rebinding) brings, and what
// other pages ask for as an image or by script. What is left is done here:
//
//   - A link on somebody's page, or his form, must not have policyd look names up: what a
//     browser says comes from another site (Sec-Fetch-Site) is explained only once the
//     reader asks for it on this page. Browsers do not say so where the connection is
//     neither encrypted nor to loopback; then the limits below are what there is.
//   - No script runs, nothing is loaded from elsewhere, and no other page may frame this
//     one: see the Content-Security-Policy.
//
// # Limits
//
// A snapshot, its page and its JSON are made at most once a second, however many ask: a page
// takes 8 ms of a processor. Explanations: two at once,
// one a second over a time, for at most 15 seconds each; who asks beyond that is told
// to come back (429). A list shows at most 100 rows on the page and has at most as many
// in the JSON as its docstring says.
//
// What remote zones, mail servers and policy hosts wrote is in a snapshot and in a
// report. html/template escapes all of it.
//
// # What it does not do
//
// It keeps nothing beyond the process: after a restart the plots begin anew, and say so.
// It does not listen, and does not know where its numbers come from.
package status
