package httpd

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func hello(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/panic" {
		panic("defect")
	}
	fmt.Fprint(w, "hello")
}

func newServer() *Server {
	return New(Config{Handler: http.HandlerFunc(hello), Hosts: []string{"mx1.example.net"}, Log: slog.New(slog.DiscardHandler)})
}

// TestGuard: what is let through, and what is not.
func TestGuard(t *testing.T) {
	for _, tt := range []struct {
		name, method, path, host string
		header                   []string
		want                     int
	}{
		{name: "address", host: "127.0.0.1:8462", want: 200},
		{name: "address without port", host: "192.0.2.1", want: 200},
		{name: "address of IPv6", host: "[::1]:8462", want: 200},
		{name: "address of IPv6 without port", host: "[::1]", want: 200},
		{name: "localhost", host: "LocalHost:1", want: 200},
		{name: "configured", host: "MX1.example.net.:8462", want: 200},
		{name: "rebound", host: "attacker.example:8462", want: 421},
		{name: "below a name", host: "x.localhost:8462", want: 421},
		{name: "looks like an address", host: "127.0.0.1.attacker.example", want: 421},
		{name: "short address", host: "127.1", want: 421},
		{name: "no host", host: "", want: 421},
		{name: "head", method: "HEAD", host: "127.0.0.1", want: 200},
		{name: "post", method: "POST", host: "127.0.0.1", want: 405},
		{name: "options", method: "OPTIONS", host: "127.0.0.1", want: 405},
		{name: "typed by its user", host: "127.0.0.1", header: []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}, want: 200},
		{name: "own form", host: "127.0.0.1", header: []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate"}, want: 200},
		{name: "link elsewhere", host: "127.0.0.1", header: []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, want: 200},
		{name: "image elsewhere", host: "127.0.0.1", header: []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, want: 403},
		{name: "script of another port", host: "127.0.0.1", header: []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}, want: 403},
		{name: "defect", host: "127.0.0.1", path: "/panic", want: 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "http://x"+tt.path, nil)
			r.Host = tt.host
			for i := 0; i < len(tt.header); i += 2 {
				r.Header.Set(tt.header[i], tt.header[i+1])
			}
			w := httptest.NewRecorder()
			s := newServer()
			s.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tt.want)
			}
			if got := w.Header().Get("X-Content-Type-Options") + w.Header().Get("Cache-Control"); got != "nosniffno-store" {
				t.Errorf("headers: %v", w.Header())
			}
			away := uint64(1)
			if tt.want == 200 || tt.want == 500 {
				away = 0
			}
			if st := s.Stats(); st.Requests != 1 || st.TurnedAway != away || (st.Panics == 1) != (tt.want == 500) {
				t.Errorf("%+v", st)
			}
		})
	}
}

// start serves on loopback until the test ends.
func start(t *testing.T) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer()
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

// ask asks on a connection and reads the answer.
func ask(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello" {
		t.Fatalf("%s, %v", body, err)
	}
	resp.Body.Close()
}

// dial opens a connection that ends with the test.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRoom: whoever holds all connections without asking keeps nobody out for long, and who
// is idle goes for a newcomer at once.
func TestRoom(t *testing.T) {
	s, address := start(t)
	idle := make([]net.Conn, MaxConnections)
	for i := range idle {
		idle[i] = dial(t, address)
		ask(t, idle[i])
		waitFor(t, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			n := 0
			for _, since := range s.open {
				if !since.IsZero() {
					n++
				}
			}
			return n == i+1
		})
	}
	ask(t, dial(t, address))
	if _, err := idle[0].Read(make([]byte, 1)); err == nil {
		t.Error("the connection that is idle longest is still there")
	}
	ask(t, idle[MaxConnections-1])
	if st := s.Stats(); st.Shed != 1 || st.Open > MaxConnections {
		t.Errorf("%+v", st)
	}
}

// TestBusy: where none is idle, the newcomer goes.
func TestBusy(t *testing.T) {
	s, address := start(t)
	for range MaxConnections {
		if _, err := io.WriteString(dial(t, address), "GET"); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return s.Stats().Open == MaxConnections })
	c := dial(t, address)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the newcomer is answered before it asks")
	}
	if st := s.Stats(); st.Shed != 1 || st.Open != MaxConnections {
		t.Errorf("%+v", st)
	}
}

// TestHeader: what is too long is refused.
func TestHeader(t *testing.T) {
	_, address := start(t)
	c := dial(t, address)
	// The server may close before all is written.
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
}

// waitFor polls a condition.
func waitFor(t *testing.T, met func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(10 * time.Second)
	for !met() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("it does not come to be")
		}
	}
}
