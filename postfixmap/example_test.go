package postfixmap_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"tlsverdict/postfixmap"
)

// A server, and a client that asks it.
func Example() {
	policy := postfixmap.TLSPolicy{Level: postfixmap.LevelDANEOnly}
	line, err := policy.AppendTo(nil, postfixmap.V3_10)
	if err != nil {
		log.Fatal(err)
	}
	lines := map[string]string{"example.com": string(line)}
	server := &postfixmap.Server{Handler: postfixmap.HandlerFunc(
		func(_ context.Context, req postfixmap.Request, reply []byte) []byte {
			if string(req.Map) != "postfix" {
				return postfixmap.AppendTemp(reply, "unknown map")
			}
			if line, ok := lines[string(req.Key)]; ok {
				return postfixmap.AppendOK(reply, line)
			}
			return postfixmap.AppendNotFound(reply)
		})}

	ctx := context.Background()
	address, err := postfixmap.ParseAddress("inet:127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener, err := address.Listen(ctx, 0o660)
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()

	address, err = postfixmap.ParseAddress("inet:" + listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	client := &postfixmap.Client{Address: address}
	for _, key := range []string{"example.com", "example.net"} {
		reply, err := client.Lookup(ctx, "postfix", key)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %v %q\n", key, reply.Status, reply.Data)
	}
	if err := errors.Join(client.Close(), server.Shutdown(ctx)); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-served)
	// Output:
	// example.com: OK "dane-only"
	// example.net: NOTFOUND ""
	// postfixmap: server closed
}

// An MTA-STS policy as a line for Postfix 3.10, and what older ones think of it.
func ExampleTLSPolicy_AppendTo() {
	p := postfixmap.TLSPolicy{
		Level: postfixmap.LevelSecure, ServerName: postfixmap.ServerNameHostname,
		PolicyType: postfixmap.PolicySTS, PolicyDomain: "example.com",
		PolicyStrings: []string{"version: STSv1", "mode: enforce"},
	}
	for _, mx := range []string{"mx.example.com", "*.example.net", "hostname"} {
		match, err := postfixmap.HostPattern(mx)
		if err != nil {
			fmt.Println(err)
			continue
		}
		published, err := postfixmap.MXHostPattern(mx)
		if err != nil {
			fmt.Println(err)
			continue
		}
		p.Match = append(p.Match, match)
		p.MXHostPatterns = append(p.MXHostPatterns, published)
	}
	line, err := p.AppendTo(nil, postfixmap.V3_10)
	fmt.Println(string(line), err)
	_, err = p.AppendTo(nil, postfixmap.V3_9)
	fmt.Println(err)
	// Output:
	// postfixmap: TLS policy: match "hostname": a strategy of Postfix, not a host: put it into Strategies if that is what you mean
	// secure match=mx.example.com:.example.net servername=hostname policy_type=sts policy_domain=example.com mx_host_pattern=mx.example.com mx_host_pattern=*.example.net { policy_string = version: STSv1 } { policy_string = mode: enforce } <nil>
	// postfixmap: TLS policy: policy_type: unknown to Postfix 3.9, which then defers all mail: leave it out below 3.10
}

func ExampleParseTLSPolicy() {
	p, err := postfixmap.ParseTLSPolicy("secure match=.example.com servername=hostname", postfixmap.V3_4)
	fmt.Println(p.Level, p.Match, p.ServerName, err)
	_, err = postfixmap.ParseTLSPolicy("encrypt match=mx.example.com", postfixmap.V3_4)
	fmt.Println(err)
	// Output:
	// secure [.example.com] hostname <nil>
	// postfixmap: TLS policy: match: not allowed at level encrypt: use fingerprint, verify or secure
}
