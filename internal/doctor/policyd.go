package doctor

import (
	"cmp"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"tlsverdict/internal/finding"
	"tlsverdict/postfixmap"
)

// Policyd is what was found of policyd. In the zero value nothing was looked at.
type Policyd struct {
	// File is the configuration; "" the built-in defaults.
	File string
	// Problem is why it cannot be used; then nothing else was looked at.
	Problem string
	// Warnings are what is probably not meant.
	Warnings []string
	// Observe: nothing is enforced.
	Observe bool
	// Native: Postfix is left to do DANE itself, whatever it can do.
	Native bool
	// Fingerprints: policyd tells Postfix fingerprints, whatever it could do itself.
	Fingerprints bool
	// Seeks: how DANE can be enforced is found out by a look at Postfix, and no resolver is
	// named for it.
	Seeks bool
	// Listen are the sockets for questions.
	Listen []Listener
	Store  Store
}

// Listener is a socket of the configuration.
type Listener struct {
	Address postfixmap.Address
	Answer  Answer
}

// Store is where policies are kept.
type Store struct {
	// Path is the file; "" keeps them in memory.
	Path string
	// User is who policyd runs as, Users where that is known from; NoUser why it is not
	// known.
	User   User
	Known  string
	NoUser string
	// Dir and File are what is there; nil: nothing is.
	Dir, File *Stat
	// Problem is why it could not be looked at.
	Problem string
	// ReadOnly: the file system is. Free is what is left on it, in bytes; negative where
	// that is not known.
	ReadOnly bool
	Free     int64
}

// User is a user of the host, with all of its groups.
type User struct {
	Name   string
	ID     uint32
	Groups []uint32
}

// Stat is a file or directory.
type Stat struct {
	Path        string
	Mode        fs.FileMode
	User, Group uint32
}

// may reports whether a user has these permissions, as in 0o6 for reading and writing.
func (u User) may(e *Stat, bits fs.FileMode) bool {
	switch {
	case u.ID == 0:
		return true
	case u.ID == e.User:
		bits <<= 6
	case slices.Contains(u.Groups, e.Group):
		bits <<= 3
	}
	return e.Mode.Perm()&bits == bits
}

// minFree is how much the store's file system should have left, in bytes: the store has
// 2 KB a domain.
const minFree = 64 << 20

// What is looked at of policyd.
const (
	PolicydConfig  Check = "configuration"
	PolicydMode    Check = "mode"
	PolicydAnswers Check = "answers"
	PolicydStore   Check = "store"
	PolicydDANE    Check = "dane"
)

func policydKinds() map[Check]Kind {
	return map[Check]Kind{
		PolicydConfig: {
			Severity: finding.Error,
			Title:    "the configuration can be used, and nothing in it is probably not meant",
			Why:      "policyd does not start with what is wrong, and a reload keeps the old",
			Mend:     "the line that is named",
		},
		PolicydMode: {
			Severity: finding.Notice,
			Title:    "verdicts are enforced",
			Why:      "mode = \"observe\": verdicts are worked out and logged, and every answer is that there is no policy",
			Mend:     "`mode = \"enforce\"` in policyd.toml",
		},
		PolicydAnswers: {
			Severity: finding.Error,
			Title:    "policyd answers on each of its sockets",
			Why:      "mail servers defer all mail while nobody answers",
			Mend:     "`systemctl enable --now tlsverdict-policyd`",
		},
		PolicydDANE: {
			Severity: finding.Warning,
			Title:    "policyd knows how the mail server here can enforce DANE",
			Why:      "postfix.dane = \"auto\" asks Postfix alone; without one policyd answers fingerprints, which an Exim and a Sendmail with a resolver of their own need not: mail waits for domains whose TLSA records have no fingerprint",
			Mend:     "`dane_resolver = \"127.0.0.1\"`, the resolver of the mail server, in [postfix] of policyd.toml",
			Cite:     "RFC 7672 §2.1.1",
		},
		PolicydStore: {
			Severity: finding.Error,
			Title:    "the store can be read and written by the user that policyd runs as, and has room",
			Why:      "policies are kept in memory only, and each restart forgets them: the next answer for an MTA-STS domain is then only as good as the network at that moment",
			Mend:     "`chown -R tlsverdict: /var/lib/tlsverdict`",
			Cite:     "RFC 8461 §5.1",
		},
	}
}

// policyd judges it.
func (r *report) policyd() {
	p := &r.Policyd
	r.subject = policydSubject
	name := p.File
	if name == "" {
		name = "the built-in defaults"
	}
	if p.Problem != "" {
		r.wrong(PolicydConfig, name, p.Problem, words("mend that line; policyd check-config says whether it is"))
		r.unseen(PolicydAnswers, "the sockets", "the configuration that names them cannot be used")
		r.unseen(PolicydStore, "the store", "the configuration that names it cannot be used")
		return
	}
	if len(p.Listen) == 0 {
		return
	}
	for _, w := range p.Warnings {
		r.add(Finding{Check: PolicydConfig, Severity: finding.Warning, Looked: name, Found: w})
	}
	if len(p.Warnings) == 0 {
		r.well(PolicydConfig, name, name)
	}
	if p.Observe {
		r.add(Finding{Check: PolicydMode, Severity: finding.Notice, Looked: name, Found: `mode = "observe"`, In: p.File, Mend: `mode = "enforce"`})
	} else {
		r.well(PolicydMode, name, "verdicts are enforced")
	}
	r.answers()
	r.store()
	r.dane()
}

// dane judges whether policyd can know what a mail server other than Postfix can do.
func (r *report) dane() {
	exim, sendmail := &r.MTAs.Exim, &r.MTAs.Sendmail
	name := cmp.Or(r.Policyd.File, "the built-in defaults")
	does := exim.Setup.DANE || sendmail.dane()
	switch {
	case len(r.MTAs.Postfix.Instances) > 0:
		r.well(PolicydDANE, name, "Postfix tells it")
	case exim.Setup.Version == "" && sendmail.Setup.Version == "":
		return // that there is none is told already
	case !r.Policyd.Seeks:
		r.well(PolicydDANE, name, "it need not look for a Postfix")
	case does:
		r.add(Finding{
			Check: PolicydDANE, Severity: finding.Warning, Looked: name, Found: "it looks for a Postfix, and there is none here",
			In: cmp.Or(r.Policyd.File, "/etc/tlsverdict/policyd.toml"), Mend: "[postfix]\ndane_resolver = \"127.0.0.1\"",
		})
	default:
		r.add(Finding{
			Check: PolicydDANE, Severity: finding.Notice, Looked: name, Found: "it looks for a Postfix, and there is none here; Sendmail does no DANE",
			In: cmp.Or(r.Policyd.File, "/etc/tlsverdict/policyd.toml"), Mend: "[postfix]\ndane = \"native\"",
		})
	}
}

// answers judges the sockets.
func (r *report) answers() {
	for _, l := range r.Policyd.Listen {
		address := l.Address.String()
		looked := "a question to " + address
		switch a := &l.Answer; {
		case a.Policyd:
			r.well(PolicydAnswers, looked, address)
		case a.Unasked, a.Denied:
			r.unseen(PolicydAnswers, looked, a.Problem)
		case a.Problem != "":
			r.wrong(PolicydAnswers, looked, address+": "+a.Problem, "systemctl enable --now tlsverdict-policyd")
		default:
			r.wrong(PolicydAnswers, looked, address+": what listens there answers "+a.Reply+", and is not policyd",
				words("end what listens there, or name another address in socketmap.listen"))
		}
	}
}

// store judges where policies are kept.
func (r *report) store() {
	s := &r.Policyd.Store
	switch {
	case s.Path == "":
		r.add(Finding{Check: PolicydStore, Severity: finding.Notice, Looked: "store.path", Found: "store.path = \"\": policies are kept in memory only"})
		return
	case s.Problem != "":
		r.unseen(PolicydStore, s.Path, s.Problem)
		return
	}
	dir, owner := filepath.Dir(s.Path), s.User.Name
	if owner == "" {
		owner = fmt.Sprint(s.User.ID)
	}
	switch {
	case s.Dir == nil && s.NoUser == "":
		r.wrong(PolicydStore, dir, dir+" is not there", fmt.Sprintf("install -d -o %s -m 0700 %s", owner, dir))
	case s.Dir == nil:
		r.unseen(PolicydStore, dir, dir+" is not there, and "+s.NoUser)
	case s.ReadOnly:
		r.wrong(PolicydStore, dir, dir+" is on a file system that cannot be written to", "mount -o remount,rw \"$(findmnt -no TARGET -T "+dir+")\"")
	case s.NoUser != "":
		r.unseen(PolicydStore, s.Path, s.NoUser)
	case !s.User.may(s.Dir, 0o7):
		r.wrong(PolicydStore, dir, fmt.Sprintf("%s is %v of the user %d: %s may not write there", dir, s.Dir.Mode, s.Dir.User, owner), "chown -R "+owner+" "+dir+" && chmod u+rwx "+dir)
	case s.File != nil && !s.User.may(s.File, 0o6):
		r.wrong(PolicydStore, s.Path, fmt.Sprintf("%s is %v of the user %d: %s may not read and write it", s.Path, s.File.Mode, s.File.User, owner), "chown "+owner+" "+s.Path+" && chmod u+rw "+s.Path)
	case s.Free >= 0 && s.Free < minFree:
		r.add(Finding{
			Check: PolicydStore, Severity: finding.Warning, Looked: dir,
			Found: fmt.Sprintf("%d MB are left for %s", s.Free>>20, dir), Mend: words("make room on that file system"),
		})
	default:
		r.well(PolicydStore, s.Path, strings.TrimSpace(s.Path+", as "+owner+" "+s.Known))
	}
}
