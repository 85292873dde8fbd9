package postfix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"tlsverdict/internal/program"
)

// ErrExamine: there is a Postfix, and what it is set up to do cannot be learned. It
// must not be taken for any particular setting.
var ErrExamine = errors.New("postfix: cannot be examined")

// Sha256 is the one kind of fingerprint that TLSA records can be written as.
const Sha256 = "sha256"

// Setup is what Postfix is set up to do. The zero value of each field promises
// nothing.
type Setup struct {
	// Version is that of Postfix ("3.7.11"); empty where there is none.
	Version string
	// ResolvConf is the file that smtp(8) has its resolvers from; without Postfix,
	// the host's.
	ResolvConf string
	// Chrooted: smtp(8) runs below the queue directory.
	Chrooted bool
	// DANE: nothing in its settings makes it refuse the levels dane and dane-only.
	DANE bool
	// Obstacle is what does, where there is a Postfix and not DANE.
	Obstacle Obstacle
	// Digest is the kind of fingerprint that it compares: "sha256", "md5".
	Digest string
	// Level is the TLS level of domains without a policy (smtp_tls_security_level), empty
	// where none is set: then TLS is off unless an old setting says otherwise.
	Level string
	// PolicyMaps and TransportMaps are the tables that it asks for TLS policies and for
	// transports, as a list.
	PolicyMaps, TransportMaps string
	// Queue is the queue directory, as Postfix names it.
	Queue string
}

// Obstacle is a setting with which smtp(8) sets DANE aside: it delivers as with the
// level "may" where "dane" is asked for, and defers "dane-only".
type Obstacle struct {
	// Because is the setting, in words; WayOut what to write in its place.
	Because, WayOut string
}

// Host is the machine that Postfix may be on. In the zero value there is none.
type Host struct {
	// Root is the top of the file system; empty means "/".
	Root string
	// Path are the absolute directories in which postconf may be, below Root.
	Path []string
	// Run runs a program and returns its standard output. Needed where Path is not
	// empty. Errors wrap ErrSilent where it failed and said nothing.
	Run func(ctx context.Context, program string, args ...string) ([]byte, error)
}

// Here is the machine that this program runs on.
func Here() Host {
	return Host{Path: append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin"), Run: program.Run}
}

const (
	resolvConf = "etc/resolv.conf"
	smtp       = "smtp/unix"

	dnsSupport  = "smtp_dns_support_level"
	hostLookup  = "smtp_host_lookup"
	mxErrors    = "ignore_mx_lookup_error"
	dnsOptions  = "smtp_dns_resolver_options"
	digest      = "smtp_tls_fingerprint_digest"
	level       = "compatibility_level"
	tlsLevel    = "smtp_tls_security_level"
	policyMaps  = "smtp_tls_policy_maps"
	queue       = "queue_directory"
	mailVersion = "mail_version"
)

// ofSmtp are the settings that smtp/unix may have for itself.
func ofSmtp() []string {
	return []string{dnsSupport, hostLookup, mxErrors, dnsOptions, digest, tlsLevel, policyMaps}
}

// Examine asks postconf. Where there is none, and no main.cf either, there is no
// Postfix, and no error. Errors wrap ErrExamine.
func (h Host) Examine(ctx context.Context) (Setup, error) {
	postconf, err := h.find()
	if postconf == "" || err != nil {
		return Setup{ResolvConf: h.at(resolvConf)}, err
	}
	// Names that are not there would only be missing in the output.
	main, err := h.ask(ctx, postconf, append([]string{"-x", mailVersion, queue, level, transports}, ofSmtp()...)...)
	if err != nil {
		return Setup{}, err
	}
	fields, err := h.ask(ctx, postconf, "-F", smtp+"/chroot")
	if err != nil {
		return Setup{}, err
	}
	// What "-o" in master.cf says goes before main.cf.
	words := []string{"-P", "-x"}
	for _, name := range ofSmtp() {
		words = append(words, smtp+"/"+name)
	}
	options, err := h.ask(ctx, postconf, words...)
	if err != nil {
		return Setup{}, err
	}
	for _, name := range ofSmtp() {
		if value, ok := options[smtp+"/"+name]; ok {
			main[name] = value
		}
	}
	return h.read(main, fields[smtp+"/chroot"])
}

// read makes a Setup of what postconf said.
func (h Host) read(main map[string]string, chroot string) (Setup, error) {
	s := Setup{Version: main[mailVersion], Obstacle: obstacle(main), Digest: strings.ToLower(main[digest]), Level: main[tlsLevel], PolicyMaps: main[policyMaps], TransportMaps: main[transports], Queue: main[queue]}
	if s.Version == "" {
		return Setup{}, fmt.Errorf("%w: postconf names no version", ErrExamine)
	}
	s.DANE = s.Obstacle == Obstacle{}
	var err error
	if s.Chrooted, err = chrooted(chroot, main[level]); err != nil {
		return Setup{}, err
	}
	s.ResolvConf = h.at(resolvConf)
	if s.Chrooted {
		if !filepath.IsAbs(main[queue]) {
			return Setup{}, fmt.Errorf("%w: queue_directory = %.80q is no absolute path", ErrExamine, main[queue])
		}
		s.ResolvConf = h.at(main[queue], resolvConf)
	}
	return s, nil
}

// obstacle is what makes smtp(8) set DANE aside (dane_init in smtp_tls_policy.c),
// the first of it. A value that Postfix does not know, with which it delivers
// nothing, counts as one that is in the way.
func obstacle(main map[string]string) Obstacle {
	switch {
	case !strings.EqualFold(main[dnsSupport], "dnssec"):
		return Obstacle{"Postfix does not ask for DNSSEC", dnsSupport + " = dnssec"}
	case !slices.Contains(strings.FieldsFunc(main[hostLookup], separates), "dns"):
		return Obstacle{fmt.Sprintf("Postfix looks hosts up without the DNS (%s = %.80s)", hostLookup, main[hostLookup]), hostLookup + " = dns"}
	case !strings.EqualFold(main[mxErrors], "no"):
		return Obstacle{fmt.Sprintf("Postfix does not mind MX lookups that fail (%s = %.80s), and so no proof either", mxErrors, main[mxErrors]), mxErrors + " = no"}
	case main[dnsOptions] != "":
		// The only two that there are make other names of those that are asked for.
		return Obstacle{fmt.Sprintf("Postfix lets its resolver change names (%s = %.80s)", dnsOptions, main[dnsOptions]), dnsOptions + " ="}
	}
	return Obstacle{}
}

// separates tells what stands between the words of a list.
func separates(r rune) bool { return r == ',' || unicode.IsSpace(r) }

// chrooted reads the field of master.cf. "-" is the default, which was "y" before
// compatibility level 1.
func chrooted(field, level string) (bool, error) {
	switch field {
	case "y":
		return true, nil
	case "n":
		return false, nil
	case "-":
		major, _, _ := strings.Cut(level, ".")
		n, err := strconv.ParseUint(major, 10, 16)
		if err != nil {
			return false, fmt.Errorf("%w: compatibility_level = %.80q is no number", ErrExamine, level)
		}
		return n < 1, nil
	}
	return false, fmt.Errorf("%w: master.cf does not say whether %s is chrooted (%.80q)", ErrExamine, smtp, field)
}

// find returns where postconf is, or "".
func (h Host) find() (string, error) {
	for _, dir := range h.Path {
		if !filepath.IsAbs(dir) {
			continue
		}
		program := h.at(dir, "postconf")
		if info, err := os.Stat(program); err == nil && info.Mode().IsRegular() {
			return program, nil
		}
	}
	// A configuration without the program is that of a Postfix elsewhere, in another
	// container perhaps, which nobody here can ask.
	if main := h.at("etc/postfix/main.cf"); len(h.Path) > 0 {
		if _, err := os.Stat(main); err == nil {
			return "", fmt.Errorf("%w: there is %s, and no postconf", ErrExamine, main)
		}
	}
	return "", nil
}

// at is the name of a file below Root.
func (h Host) at(elements ...string) string {
	return filepath.Join(append([]string{"/", h.Root}, elements...)...)
}

// ask runs postconf.
func (h Host) ask(ctx context.Context, postconf string, args ...string) (map[string]string, error) {
	out, err := h.Run(ctx, postconf, args...)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %s: %w", ErrExamine, postconf, args[0], err)
	}
	return program.Settings(string(out)), nil
}
