// Package sendmail finds out what this host's Sendmail is set up to do, as far as a verdict
// depends on it: how it was built, and what its sendmail.cf has of policyd.
//
//	setup, err := sendmail.Examine(ctx, program.Here())
//	if err != nil { ... }                  // there is one, and it cannot be examined
//	if setup.Version == "" { ... }         // there is none
//
// Sendmail is asked for its version and compile options by its own -d0.13; the rest is read
// in sendmail.cf, which is what it reads itself.
//
// Limits: /etc/mail/sendmail.cf, the configuration of the daemon. A program of the name
// sendmail that belongs to another mail server is not run.
//
// Errors: ErrExamine. The package decides nothing.
package sendmail

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"tlsverdict/internal/program"
)

// ErrExamine: there is a Sendmail, and it cannot be run or its configuration not read.
var ErrExamine = errors.New("sendmail: cannot be examined")

// What Sendmail reads, and what that is made of.
const (
	CF = "/etc/mail/sendmail.cf"
	MC = "/etc/mail/sendmail.mc"
)

// Setup is what Sendmail is set up to do. In the zero value there is none.
type Setup struct {
	// Version is that of Sendmail ("8.18.1"); empty where there is none.
	Version string
	// Program is where it is.
	Program string
	// Compiled are its compile options: "STARTTLS", "DANE", "_FFR_MTA_STS".
	Compiled map[string]bool
	// CFDir is the directory of its m4 files, empty where it is not found.
	CFDir string
	// Options are the lines "O Name=value" of sendmail.cf; the last of a name counts.
	Options map[string]string
	// Maps are the lines "Kname ..." of it.
	Maps map[string]string
	// Asks: it has the rulesets of FEATURE(tlsverdict).
	Asks bool
	// STS: it has FEATURE(sts).
	STS bool
	// Stale: sendmail.mc was changed after sendmail.cf was made.
	Stale bool
}

// Examine asks the Sendmail of a machine. Where there is none, there is no error. Errors
// wrap ErrExamine.
func Examine(ctx context.Context, m program.Machine) (Setup, error) {
	text, err := m.ReadFile(CF)
	if errors.Is(err, fs.ErrNotExist) {
		return Setup{}, nil
	}
	path := find(m)
	switch {
	case path == "":
		return Setup{}, nil // what an uninstalled one leaves
	case err != nil:
		return Setup{}, fmt.Errorf("%w: %w", ErrExamine, err)
	}
	// Address test mode ends where its input does, and has nothing.
	said, err := m.Run(ctx, path, "-d0.13", "-bt")
	if err != nil {
		return Setup{}, fmt.Errorf("%w: %s -d0.13 -bt: %w", ErrExamine, path, err)
	}
	s := built(string(said))
	if s.Version == "" {
		return Setup{}, fmt.Errorf("%w: %s -d0.13 -bt names no version", ErrExamine, path)
	}
	s.Program = path
	s.read(string(text))
	s.Stale = later(m, MC, CF)
	for _, dir := range []string{"/usr/share/sendmail/cf", "/usr/share/sendmail-cf"} {
		if info, err := m.Stat(dir + "/feature"); err == nil && info.IsDir() {
			s.CFDir = dir
			break
		}
	}
	return s, nil
}

// find returns where Sendmail is, or "". Debian and Fedora give it a name of its own; the
// common one may be anybody's.
func find(m program.Machine) string {
	if path := m.Find("sendmail-mta", "sendmail.sendmail"); path != "" {
		return path
	}
	if m.Find("postconf", "exim4", "exim") != "" {
		return ""
	}
	return m.Find("sendmail")
}

// later reports whether a file was changed a good while after another was: an editor and
// make(1) in one go leave less between them.
func later(m program.Machine, a, b string) bool {
	first, err1 := m.Stat(a)
	second, err2 := m.Stat(b)
	return err1 == nil && err2 == nil && first.ModTime().After(second.ModTime().Add(time.Second))
}

// built reads what -d0.13 says.
func built(text string) Setup {
	s := Setup{Compiled: make(map[string]bool)}
	listed := false
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "Version "); ok && s.Version == "" {
			s.Version = strings.TrimSpace(rest)
			continue
		}
		head, words, ok := strings.Cut(line, ":")
		switch strings.TrimSpace(head) {
		case "Compiled with", "FFR Defines":
			listed = ok
		default:
			if ok && !strings.HasPrefix(line, "\t") {
				listed = false
			}
			words = line
		}
		if listed {
			for _, word := range strings.Fields(words) {
				name, _, _ := strings.Cut(word, "=")
				s.Compiled[name] = true
			}
		}
	}
	return s
}

// read reads sendmail.cf: a letter says what a line is, and a line that begins with a
// space belongs to the one before it.
func (s *Setup) read(text string) {
	s.Options, s.Maps = make(map[string]string), make(map[string]string)
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "O "):
			name, value, _ := strings.Cut(line[2:], "=")
			s.Options[strings.TrimSpace(name)] = strings.TrimSpace(value)
		case strings.HasPrefix(line, "K"):
			name, value, _ := strings.Cut(line[1:], " ")
			s.Maps[name] = strings.TrimSpace(value)
		case line == "STlsVerdict_judge":
			s.Asks = true
		}
	}
	s.STS = strings.EqualFold(s.Options["StrictTransportSecurity"], "true")
}

// Needs are the compile options that FEATURE(tlsverdict) needs.
func Needs() []string {
	return []string{"SOCKETMAP", "STARTTLS", "_FFR_MTA_STS", "_FFR_TLS_ALTNAMES"}
}

// Lacks are those of Needs that it was built without.
func (s Setup) Lacks() []string {
	var lacks []string
	for _, name := range Needs() {
		if !s.Compiled[name] {
			lacks = append(lacks, name)
		}
	}
	return lacks
}

// Address is where a socket map asks: the last word of its line, "" where there is no
// such map.
func (s Setup) Address(name string) string {
	words := strings.Fields(s.Maps[name])
	if len(words) < 2 || words[0] != "socket" {
		return ""
	}
	return words[len(words)-1]
}
