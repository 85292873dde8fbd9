package postfixmap_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

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

// What a client does with each kind of answer. Only NOTFOUND means that there is none.
func ExampleClient_Lookup() {
	server := &postfixmap.Server{Handler: postfixmap.HandlerFunc(
		func(_ context.Context, req postfixmap.Request, reply []byte) []byte {
			switch string(req.Key) {
			case "example.com":
				return postfixmap.AppendOK(reply, "encrypt")
			case "slow.example":
				return postfixmap.AppendTemp(reply, "the resolver does not answer")
			}
			return postfixmap.AppendNotFound(reply)
		})}
	address, err := postfixmap.ParseAddress("inet:127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener, err := address.Listen(context.Background(), 0)
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), listener) }()
	if address, err = postfixmap.ParseAddress("inet:" + listener.Addr().String()); err != nil {
		log.Fatal(err)
	}

	client := &postfixmap.Client{Address: address, Timeout: 10 * time.Second}
	ask := func(key string) {
		reply, err := client.Lookup(context.Background(), "postfix", key)
		switch {
		case err != nil:
			// Nobody answers: as good as TEMP, and never as NOTFOUND.
			fmt.Println(key, "waits: no answer")
		case reply.Status == postfixmap.StatusOK:
			fmt.Printf("%s has %s\n", key, reply.Data)
		case reply.Status == postfixmap.StatusNotFound:
			fmt.Println(key, "has nothing")
		default:
			fmt.Printf("%s waits: %s\n", key, reply.Data)
		}
	}
	ask("example.com")
	ask("example.net")
	ask("slow.example")
	if err := server.Close(); err != nil {
		log.Fatal(err)
	}
	<-served
	ask("example.com")
	if err := client.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// example.com has encrypt
	// example.net has nothing
	// slow.example waits: the resolver does not answer
	// example.com waits: no answer
}

// The wire: requests that came in one packet, and a reply.
func ExampleReader() {
	in := postfixmap.NewReader(strings.NewReader("19:postfix example.com,20:postfix .example.net,"), postfixmap.MaxRequest)
	for {
		payload, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		req, err := postfixmap.ParseRequest(payload)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("map %s, key %s\n", req.Map, req.Key)
	}
	fmt.Printf("%s\n", postfixmap.AppendNetstring(nil, postfixmap.AppendOK(nil, "dane-only")))
	// Output:
	// map postfix, key example.com
	// map postfix, key .example.net
	// 12:OK dane-only,
}

// A policy that Postfix would refuse says what is wrong before any mail waits for it.
func ExamplePolicyError() {
	p := postfixmap.TLSPolicy{Level: postfixmap.LevelFingerprint}
	for _, digest := range []string{"a certificate", "its key"} {
		sum := sha256.Sum256([]byte(digest))
		p.Match = append(p.Match, postfixmap.Fingerprint(sum[:]))
	}
	p.ServerName = postfixmap.ServerNameHostname
	fmt.Println(p.Check(postfixmap.V3_4))
	p.Match = append(p.Match, "not a digest")
	err := p.Check(postfixmap.V3_4)
	var wrong *postfixmap.PolicyError
	if errors.As(err, &wrong) {
		fmt.Printf("%s %q: %s: %s\n", wrong.Attribute, wrong.Value, wrong.Reason, wrong.Remedy)
	}
	fmt.Println(errors.Is(err, postfixmap.ErrPolicy))
	// Output:
	// <nil>
	// match "not a digest": never matches below 3.6, which compares the text, colons included: write colons between the pairs, as Fingerprint does
	// true
}

// Addresses are written as in main.cf.
func ExampleParseAddress() {
	for _, text := range []string{"inet:127.0.0.1:8461", "inet:[::1]:8461", "unix:/run/tlsverdict/policyd.sock", "127.0.0.1:8461"} {
		a, err := postfixmap.ParseAddress(text)
		if err != nil {
			fmt.Println(errors.Is(err, postfixmap.ErrAddress), "not an address:", text)
			continue
		}
		fmt.Println(a.Network(), a.Endpoint())
	}
	// Output:
	// tcp 127.0.0.1:8461
	// tcp [::1]:8461
	// unix /run/tlsverdict/policyd.sock
	// true not an address: 127.0.0.1:8461
}
