package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tlsverdict/postfixmap"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"policyd": main})
}

// TestScripts runs policyd as its users do: as a process, from a shell. Each
// script is a session; "answers ADDRESS MAP KEY STATUS" waits until the daemon
// gives that status.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			// A unix socket's path has 107 bytes at most.
			dir, err := os.MkdirTemp("", "policyd")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("SOCK", dir+"/map.sock")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"answers": answers,
			"fill":    fill,
			"logged":  logged,
			"signal":  sendSignal,
		},
	})
}

// answers waits until a daemon gives a status: it may be starting, or reading
// its configuration again.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: answers ADDRESS MAP KEY STATUS")
	}
	address, err := postfixmap.ParseAddress(args[0])
	ts.Check(err)
	last := "no answer"
	ok := within(10*time.Second, func(ctx context.Context) bool {
		client := &postfixmap.Client{Address: address, Timeout: time.Second}
		defer client.Close()
		reply, err := client.Lookup(ctx, args[1], args[2])
		if err == nil {
			last = reply.Status.String() + " " + string(reply.Data)
		}
		return err == nil && strings.HasPrefix(last, args[3])
	})
	if !ok {
		ts.Fatalf("%s %s: %s, want %s", args[1], args[2], last, args[3])
	}
}

// logged waits until a file has a text.
func logged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: logged FILE TEXT")
	}
	var text string
	ok := within(10*time.Second, func(context.Context) bool {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		text = string(data)
		return err == nil && strings.Contains(text, args[1])
	})
	if !ok {
		ts.Fatalf("%s does not have %q:\n%s", args[0], args[1], text)
	}
}

// sendSignal sends a signal to the one process in the background.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1}
	background := ts.BackgroundCmds()
	if neg || len(args) != 1 || signals[args[0]] == nil || len(background) != 1 {
		ts.Fatalf("usage: signal HUP|TERM|USR1, with one process in the background")
	}
	ts.Check(background[0].Process.Signal(signals[args[0]]))
}

// within polls a condition until it holds or the time is over.
func within(limit time.Duration, holds func(context.Context) bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if holds(ctx) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// fill replaces $SOCK and $WORK in files: testscript leaves their text alone.
func fill(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// TestTold: an answer that is no report says what to do about it.
func TestTold(t *testing.T) {
	address, err := postfixmap.ParseAddress("inet:127.0.0.1:8461")
	check(t, err)
	for want, reply := range map[string]postfixmap.Reply{
		"has no report: TEMP: internal error":  {Status: postfixmap.StatusTemp, Data: []byte("internal error")},
		"has no report: TIMEOUT: too busy":     {Status: postfixmap.StatusTimeout, Data: []byte("too busy")},
		"answers NOTFOUND where policyd has":   {Status: postfixmap.StatusNotFound},
		"answers PERM where policyd has":       {Status: postfixmap.StatusPerm, Data: []byte("no")},
		"answers something else than a report": {Status: postfixmap.StatusOK, Data: []byte("secure match=x")},
	} {
		report, err := told(address, reply)
		var e exit
		if report != nil || !errors.As(err, &e) || e.code != exitTemporary || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), address.String()) || !strings.Contains(err.Error(), "--fresh") {
			t.Errorf("%v %s: %+v, %v; want %q", reply.Status, reply.Data, report, err, want)
		}
	}
	report, err := told(address, postfixmap.Reply{Status: postfixmap.StatusOK, Data: []byte(`{"verdict":"dane"}`)})
	if err != nil || report.Verdict != "dane" || report.Origin != "from the daemon at inet:127.0.0.1:8461" {
		t.Errorf("%+v, %v", report, err)
	}
}
