package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/d--j/go-milter"
	"github.com/rogpeppe/go-internal/testscript"

	"tlsverdict/internal/daemon"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"milter": main, "policyd": policyd})
}

// policyd is the daemon that the milter asks.
func policyd() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := daemon.Run(ctx, daemon.Options{ConfigFile: os.Args[1], Stdout: os.Stdout, Stderr: os.Stderr})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitTemporary)
	}
}

// TestScripts runs the milter as its users do: as a process, from a shell, with the
// library's client in the MTA's place. "rcpt SOCKET SENDER RECIPIENT ANSWER" waits
// until a recipient gets that answer.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			// A unix socket's path has 107 bytes at most.
			dir, err := os.MkdirTemp("", "milter")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("SOCK", dir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fill": fill, "logged": logged, "rcpt": rcpt, "signal": sendSignal,
		},
	})
}

// rcpt waits until a recipient gets an answer: the milter may be starting, or
// reading its configuration again.
func rcpt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: rcpt SOCKET SENDER RECIPIENT ANSWER")
	}
	last := ""
	ok := within(10*time.Second, func() bool {
		last = judge(args[0], args[1], args[2])
		return strings.HasPrefix(last, args[3])
	})
	if !ok {
		ts.Fatalf("%s gets %q, want %q", args[2], last, args[3])
	}
}

// judge is one recipient's answer.
func judge(socket, sender, recipient string) string {
	bag := milter.NewMacroBag()
	_, domain, _ := strings.Cut(recipient, "@")
	bag.Set(milter.MacroRcptMailer, "smtp")
	bag.Set(milter.MacroRcptHost, domain)
	c, err := milter.NewClient("unix", socket).Session(bag)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if _, err = c.Conn("client.example", milter.FamilyInet, 4000, "192.0.2.1"); err == nil {
		_, err = c.Helo("client.example")
	}
	if err == nil {
		_, err = c.Mail(sender, "")
	}
	if err != nil {
		return err.Error()
	}
	a, err := c.Rcpt(recipient, "")
	if err != nil {
		return err.Error()
	}
	if a.Type == milter.ActionContinue {
		return "continue"
	}
	return a.SMTPReply
}

// logged waits until a file has a text.
func logged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: logged FILE TEXT")
	}
	text := ""
	ok := within(10*time.Second, func() bool {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		text = string(data)
		return err == nil && strings.Contains(text, args[1])
	})
	if !ok {
		ts.Fatalf("%s does not have %q:\n%s", args[0], args[1], text)
	}
}

// sendSignal sends a signal to a process in the background, by its place in the
// order in which they began.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1}
	background := ts.BackgroundCmds()
	if neg || len(args) != 1 || signals[args[0]] == nil || len(background) == 0 {
		ts.Fatalf("usage: signal HUP|TERM|USR1, for the process that began last")
	}
	ts.Check(background[len(background)-1].Process.Signal(signals[args[0]]))
}

// within polls a condition until it holds or the time is over.
func within(limit time.Duration, holds func() bool) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if holds() {
			return true
		}
		select {
		case <-end.C:
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
