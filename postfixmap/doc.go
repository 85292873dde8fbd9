// Package postfixmap speaks the socketmap protocol and the TLS policy line of Postfix.
//
// # Purpose
//
// A mail server asks a socketmap for a key and acts on the answer: smtp_tls_policy_maps asks how
// strict TLS must be for a domain, transport_maps where its mail goes. Postfix, Sendmail and Exim
// speak the same protocol. This package has both its ends, [Server] and [Client], and, for the
// first of these questions, the right-hand side as a type, [TLSPolicy]. It has no part in how an
// answer is found and needs the standard library only.
//
// # The protocol
//
// Requests and replies are netstrings (LEN:BYTES,) on a stream, any number of them one after the
// other, without waiting if the client likes:
//
//	19:postfix example.com,         the map's name, a space, the key
//	12:OK dane-only,                found
//	9:NOTFOUND ,                    not in the map; the space is part of it
//	19:TEMP resolver fails,         not known now: the mail waits
//
// TIMEOUT means what TEMP means. PERM is a trap: Postfix defers on it, but Sendmail takes it for
// NOTFOUND and delivers, so send TEMP for every failure. A bare OK without its space is NOTFOUND
// to Postfix; this package refuses it. Requests have 10,000 bytes at most and replies 100,000
// ([MaxRequest], [MaxReply]). The zero [Status] is TEMP.
//
// # Example
//
// A server that knows one domain:
//
//	answers := map[string]postfixmap.TLSPolicy{
//		"example.com": {Level: postfixmap.LevelDANEOnly},
//	}
//	lines := make(map[string]string)
//	for domain, policy := range answers {
//		line, err := policy.AppendTo(nil, postfixmap.V3_10)
//		if err != nil {
//			return err
//		}
//		lines[domain] = string(line)
//	}
//	server := &postfixmap.Server{Handler: postfixmap.HandlerFunc(
//		func(ctx context.Context, req postfixmap.Request, reply []byte) []byte {
//			if line, ok := lines[string(req.Key)]; ok {
//				return postfixmap.AppendOK(reply, line)
//			}
//			return postfixmap.AppendNotFound(reply)
//		})}
//	address, err := postfixmap.ParseAddress("inet:127.0.0.1:8461")
//	if err != nil {
//		return err
//	}
//	listener, err := address.Listen(ctx, 0o660)
//	if err != nil {
//		return err
//	}
//	return server.Serve(ctx, listener)
//
// and in main.cf:
//
//	smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix
//
// Keys come as the sender spelled them: fold them to lower case before you compare. Postfix asks
// for a.b.example, then .b.example, then .example.
//
// # What the server does with its clients
//
// Replies come in the order of the requests. Those to a pipeline leave in one write, when no
// further whole request has arrived or 32 kB are waiting; so behind a slow answer, the quick ones
// before it wait too. Each connection has one goroutine: a slow handler holds up nobody else.
//
// A connection is closed, and counted in [Stats], when it
//
//   - sends what is not a request: not a netstring, too long, or without a space. What came
//     before is answered;
//   - takes longer than RequestTimeout (10 s) for one request, counted from its first byte: one
//     byte now and then does not help;
//   - does not read its replies for WriteTimeout (10 s, or up to twice as long);
//   - is idle for IdleTimeout (150 s, or a tenth more);
//   - is the one to go because MaxConnections (4096) are open and a newcomer is here, or because
//     the process is out of file descriptors. The longest-idle connection goes first; when none
//     is idle, the one whose unfinished request is oldest; then one whose client has not read its
//     replies for AdmitTimeout (1 s); then any of a client that has twice as many as the
//     newcomer's would have. Each time it is one of the client that has most, or else of the
//     newcomer's own. A client is an address, of IPv6 a network of 64 bits, or the user of a unix
//     socket.
//
// A newcomer for whom no connection goes waits for AdmitTimeout and is then closed; at most
// MaxNewcomers (64) wait, and hold up nobody behind them.
//
// A client that closes its sending half, as Exim does, still gets its answers. A request that
// arrives in the instant in which its connection is closed as idle is lost; clients ask again on
// a new connection, as [Client] and Postfix do.
//
// A panic in the handler is logged and answered with TEMP; so is a reply that is none. ErrorLog
// gets one record of a kind in LogInterval.
//
// # Cost
//
// Between the socket and the handler a request allocates nothing and takes no lock: what the
// connection is doing is one atomic word of its own. An idle connection costs a goroutine and
// 1 kB of buffer, and a little more once it has asked. Compare BenchmarkServer with
// BenchmarkEchoFloor, which measures the bare sockets.
//
// # The policy line
//
// Postfix defers all mail for a destination whose line it does not understand, and what it
// understands depends on its release; so encoder and decoder take a [Version]. [TLSPolicy.Check]
// says what is wrong before a line is written: a [PolicyError] names the attribute, the reason and
// the way out. In detail:
//
//   - match at verify and secure has host names and .NAME, joined by colons; at fingerprint it
//     has digests, joined by |; elsewhere it is an error. Commas and spaces end the attribute.
//   - hostname, nexthop and dot-nexthop in match are strategies, not hosts. They have a field of
//     their own; [HostPattern] and AppendTo refuse them as hosts.
//   - match, tafile, policy_string and mx_host_pattern may be repeated; nothing else may, though
//     Postfix lets the last connection_reuse and enable_rpk win.
//   - Fingerprints need colons below 3.6, which compares them as text ([Fingerprint] writes them).
//   - Values with spaces are written { name = value }, from 3.10 on. Braces inside must pair.
//   - policy_domain, policy_ttl, policy_string, mx_host_pattern and policy_failure need
//     policy_type, which is sts or no-policy-found (RFC 8460 has a third, which Postfix refuses).
//   - policy_failure makes every certificate fail, so it is refused above encrypt.
//   - From 3.10.5, policy_type=sts with match and mx_host_pattern makes Postfix compare the MX
//     name with the patterns, one label to a wildcard (RFC 8461 §4.1). Without it, match=.NAME
//     takes any number of labels, and any certificate matching any pattern serves any host.
//
// # Errors
//
// [ErrMalformed], [ErrTooLong] and [ErrNoSpace] end a connection. [ErrBadReply] means what TEMP
// means. [ErrServerClosed] and [ErrClientClosed] follow a Close. [ErrAddress] and [ErrInUse] come
// from addresses, [ErrPolicy] is in every [PolicyError]. Anything else is the network's. Whatever
// a [Client] returns beside an error, it is not "not found".
//
// # What it does not do
//
// The protocol has neither authentication nor encryption: use a unix socket with a mode, or
// loopback. There are no maps here, no caching, no retries of TEMP. [TLSPolicy] does not read
// main.cf, and does not know what Postfix's OpenSSL can do.
package postfixmap
