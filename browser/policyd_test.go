package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"tlsverdict/internal/status"
	"tlsverdict/internal/world"
	"tlsverdict/postfixmap"
)

// zones are what mail goes to.
const zones = `
zone example. secure
zone dane.example. secure
$TTL 300
@            MX   10 mx
mx           A    198.51.100.1
_25._tcp.mx  TLSA 3 1 1 {sha256}
zone weaker.example. secure
$TTL 1
@            MX   10 mx
mx           A    198.51.100.2
_25._tcp.mx  TLSA 3 1 1 {sha256}
zone prefix.example. secure
$TTL 300
@            MX   10 starttls-mx
starttls-mx  A    198.51.100.3
zone plain.example. insecure
$TTL 300
@            MX   10 mx
mx           A    198.51.100.4
zone bogus.example. bogus
$TTL 300
@            MX   10 mx
mx           A    198.51.100.5
zone broken.example. servfail
`

// internet serves a world's DNS on loopback, and returns where.
func internet(t *testing.T, w *world.World) (address string) {
	t.Helper()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = udp.Close(), tcp.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			go answer(w, bytes.Clone(b[:n]), func(reply []byte) { _, _ = udp.WriteTo(reply, from) })
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go pass(w, c)
		}
	}()
	return udp.LocalAddr().String()
}

// answer has the world answer a datagram.
func answer(w *world.World, query []byte, send func([]byte)) {
	c, err := w.DNS.Dial(context.Background(), "udp", "127.0.0.1:53")
	if err != nil {
		return
	}
	defer c.Close()
	reply := make([]byte, 1<<16)
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(query); err != nil {
		return
	}
	if n, err := c.Read(reply); err == nil {
		send(reply[:n])
	}
}

// pass connects a stream to the world.
func pass(w *world.World, c net.Conn) {
	defer c.Close()
	d, err := w.DNS.Dial(context.Background(), "tcp", "127.0.0.1:53")
	if err != nil {
		return
	}
	defer d.Close()
	go func() { _, _ = io.Copy(d, c) }()
	_, _ = io.Copy(c, d)
}

// policyd is a process of it.
type policyd struct {
	t                    *testing.T
	binary, config       string
	socketmap, http, log string
}

// startPolicyd builds policyd and starts it, until the test ends.
func startPolicyd(t *testing.T, w *world.World) *policyd {
	t.Helper()
	// A unix socket's path has 107 bytes at most.
	dir, err := os.MkdirTemp("", "page")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &policyd{t: t, binary: filepath.Join(dir, "policyd"), config: filepath.Join(dir, "policyd.toml"), log: filepath.Join(dir, "log")}
	build := exec.Command("go", "build", "-o", d.binary, "../cmd/policyd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	anchors, err := w.DNS.Anchors()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "anchors"), anchors, 0o600))
	d.socketmap, d.http = free(t), free(t)
	must(t, os.WriteFile(d.config, fmt.Appendf(nil, `[socketmap]
listen = ["inet:%s"]
[dns]
servers = ["%s"]
trust_anchors = "%s/anchors"
[postfix]
dane = "native"
[store]
path = "%s/policyd.db"
[control]
socket = "%s/control.sock"
[http]
listen = "%s"
`, d.socketmap, internet(t, w), dir, dir, dir, d.http), 0o600))
	log, err := os.Create(d.log)
	must(t, err)
	cmd := exec.Command(d.binary, "serve", "--config", d.config)
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(d.log)
			t.Logf("policyd: %s", text[max(0, len(text)-4000):])
		}
	})
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// free returns an address on which nobody listens.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// until polls a condition for a while.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not in 20 s", what)
		}
	}
}

// ask asks for domains, at once, as a mail server does, and waits for the answers.
func (d *policyd) ask(domains ...string) {
	d.t.Helper()
	address, err := postfixmap.ParseAddress("inet:" + d.socketmap)
	must(d.t, err)
	client := &postfixmap.Client{Address: address, Timeout: 15 * time.Second}
	defer client.Close()
	var all sync.WaitGroup
	for _, domain := range domains {
		all.Go(func() {
			if _, err := client.Lookup(d.t.Context(), "postfix", domain); err != nil {
				d.t.Errorf("%s: %v", domain, err)
			}
		})
	}
	all.Wait()
}

// snapshot reads status.json.
func (d *policyd) snapshot() (s snapshot, ok bool) {
	r, err := http.Get("http://" + d.http + "/status.json")
	if err != nil {
		return s, false
	}
	defer r.Body.Close()
	return s, r.StatusCode == http.StatusOK && json.NewDecoder(r.Body).Decode(&s) == nil
}

// snapshot is a part of status.json, as its readers know it.
type snapshot struct {
	DNSSEC    struct{ Works bool }
	Hour, Day struct{ Total map[string]int }
	Deferrals []status.Deferral
	Changes   status.Changes
	Cache     status.Cache
}

// TestPolicyd: the page of a policyd that answers: its numbers are those of what was
// asked, and its box explains.
func TestPolicyd(t *testing.T) {
	if !called() {
		return
	}
	w, err := world.New()
	must(t, err)
	defer w.Close()
	must(t, w.DNS.Load(zones))
	d := startPolicyd(t, w)
	until(t, "DNSSEC works", func() bool { s, ok := d.snapshot(); return ok && s.DNSSEC.Works })
	origin := "http://" + d.http
	c := startChromium(t)
	young := c.open(t, screens()[0], origin+"/")
	if text := find[string](young, "document.body.innerText"); !strings.Contains(text, "no questions yet") || !strings.Contains(text, "All is well") {
		t.Errorf("before anybody asked:\n%s", text)
	}
	young.quiet(origin)

	d.ask("dane.example", "weaker.example", "prefix.example", "plain.example", "bogus.example", "broken.example")
	for range 4 {
		d.ask("dane.example", "plain.example", "prefix.example")
	}
	// The owner of one takes its TLSA records away.
	must(t, w.DNS.Remove("_25._tcp.mx.weaker.example.", "TLSA"))
	until(t, "weaker.example has another verdict", func() bool {
		out, err := exec.Command(d.binary, "refresh", "weaker.example", "--config", d.config).Output()
		return err == nil && strings.Contains(string(out), "after:  none by none")
	})
	var s snapshot
	until(t, "18 answers, two deferrals and a change", func() bool {
		var ok bool
		s, ok = d.snapshot()
		return ok && sum(s.Hour.Total) == 18 && len(s.Deferrals) == 2 && len(s.Changes.List) == 1
	})
	if want := map[string]int{"dane-only": 6, "secure": 5, "none": 5, "defer": 2}; !has(s.Hour.Total, want) || !has(s.Day.Total, want) {
		t.Errorf("answers %v, of the day %v; want %v", s.Hour.Total, s.Day.Total, want)
	}
	if change := s.Changes.List[0]; change.Destination != "weaker.example" || !change.Downgrade {
		t.Errorf("the change is %+v", change)
	}
	for _, screen := range screens() {
		t.Run(screen.name, func(t *testing.T) {
			b := c.open(t, screen, origin+"/")
			b.shoot("policyd-" + screen.name)
			b.fits()
			b.legible()
			b.sound()
			text := find[string](b, "document.body.innerText")
			for _, want := range []string{"18", "bogus.example", "broken.example", "weaker.example", "downgrade", "DNSSEC works"} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not on the page:\n%s", want, text)
				}
			}
			b.quiet(origin)
		})
	}
	t.Run("keyboard", func(t *testing.T) { keyboard(t, c, origin) })
	t.Run("strangers", func(t *testing.T) { d.strangers(t, c) })
}

func sum(counts map[string]int) (n int) {
	for _, k := range counts {
		n += k
	}
	return n
}

func has(counts, want map[string]int) bool {
	for k, n := range want {
		if counts[k] != n {
			return false
		}
	}
	return true
}

// keyboard asks for an explanation without a mouse.
func keyboard(t *testing.T, c *chromium, origin string) {
	b := c.open(t, screens()[2], origin+"/")
	focused := func() string {
		return find[string](b, `document.activeElement.id || document.activeElement.className || document.activeElement.tagName`)
	}
	var seen []string
	for len(seen) < 10 && (len(seen) == 0 || seen[len(seen)-1] != "domain") {
		do(b, chromedp.KeyEvent(kb.Tab))
		seen = append(seen, focused())
	}
	if seen[0] != "skip" || seen[len(seen)-1] != "domain" || len(seen) > 3 {
		t.Fatalf("tabs lead to %v", seen)
	}
	if find[string](b, `getComputedStyle(document.activeElement).outlineStyle`) != "solid" {
		t.Error("it is not seen where the keyboard is")
	}
	do(b, chromedp.KeyEvent("dane.example"))
	do(b, chromedp.KeyEvent(kb.Enter))
	do(b, chromedp.WaitVisible(chromedp.CSS("#why")))
	b.shoot("policyd-explained")
	text := find[string](b, "document.body.innerText")
	for _, want := range []string{"dane-only", "RFC 7672 §2.2", "198.51.100.1", "OK dane-only", "OK level=dane-only", "a trust anchor matches"} {
		if !strings.Contains(text, want) {
			t.Errorf("the explanation has no %q:\n%s", want, text)
		}
	}
	b.fits()
	b.legible()
	b.sound()
	b.quiet(origin)
}

// strangers: what another page makes a browser ask for is not looked up, and the page
// cannot be framed by it.
func (d *policyd) strangers(t *testing.T, c *chromium) {
	origin := "http://" + d.http
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/link" {
			fmt.Fprintf(w, `<meta http-equiv="refresh" content="0; url=%s/explain?domain=stranger.example">`, origin)
			return
		}
		fmt.Fprintf(w, `<!doctype html><p>elsewhere</p><iframe src="%s/"></iframe><img src="%s/explain?domain=stranger.example">`, origin, origin)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	b := c.open(t, screens()[0], "http://localhost:"+port+"/link")
	do(b, chromedp.WaitVisible(chromedp.CSS("[role=alert]")))
	if text := find[string](b, "document.body.innerText"); !strings.Contains(text, "Another web page asked for this") {
		t.Errorf("a page that another one led to:\n%s", text)
	}
	if log, err := os.ReadFile(d.log); err != nil || !strings.Contains(string(log), "dest=dane.example") {
		t.Errorf("the log does not have what is looked up: %v", err)
	}
	b = c.open(t, screens()[0], "http://localhost:"+port+"/")
	b.mu.Lock()
	defer b.mu.Unlock()
	complaints := strings.Join(b.complaints, "\n")
	if !strings.Contains(complaints, "frame-ancestors") {
		t.Errorf("the page was framed: %s", complaints)
	}
	if log, err := os.ReadFile(d.log); err != nil || strings.Contains(string(log), "stranger.example") {
		t.Errorf("another page had something looked up: %v", err)
	}
}
