package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// snippetSetups are two setups for each way to use "policyd snippet". In the first, the
// mail server is as its distribution installs it, and what the command prints for it is
// pasted; in the second it runs with that.
func (b box) snippetSetups() []setup {
	ways := map[string][]string{"postfix": {"lines", "commands"}, "exim": {"file", "split", "unsplit"}, "sendmail": {"lines"}}
	var all []setup
	for _, way := range ways[b.server()] {
		stock := setup{name: "stock-" + way, stock: way, resolver: local, here: validates, dnssec: "validate", dane: "auto", acts: (*lab).paste}
		snippet := stock
		snippet.name, snippet.stock, snippet.kept, snippet.acts = "snippet-"+way, "", true, (*lab).some
		all = append(all, stock, snippet)
	}
	return all
}

// paste has policyd print what to paste, and does what it says. Before, nothing is asked
// for: what a policy demands is not kept.
func (l *lab) paste(t *testing.T) {
	args := []string{"policyd", "snippet", l.server()}
	if l.setup.stock == "commands" {
		// A socket outside of the chroot; postconf changes the files.
		args = append(args, "--commands", "--socket", "unix:/run/tlsverdict/policyd.sock")
	}
	text, err := l.run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text)
	if l.setup.stock == "commands" {
		if _, err := l.run(t.Context(), "sh", "-e", "-c", text); err != nil {
			t.Error(err)
		}
		return
	}
	for _, command := range said(text, "First") {
		if _, err := l.run(t.Context(), "sh", "-e", "-c", command); err != nil {
			t.Error(err)
		}
	}
	for _, p := range pieces(text) {
		old, err := os.ReadFile(l.path(p.file))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		pasted, err := p.into(string(old))
		if err != nil {
			t.Fatalf("%s: %v", p.file, err)
		}
		if err := l.write(map[string]string{p.file: pasted}); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range said(text, "Then") {
		if command, err = l.here(command); err != nil {
			t.Error(err)
		}
		if _, err := l.run(t.Context(), "sh", "-e", "-c", command); err != nil {
			t.Error(err)
		}
	}
}

// here is what a command of a snippet is on a machine of the lab, which has no service
// manager and not what Debian's maintainer scripts make for make(1).
func (l *lab) here(command string) (string, error) {
	switch command {
	case "systemctl restart exim4", "/etc/init.d/sendmail restart":
		return "true", nil // it is started anew in the next setup
	case "make -C /etc/mail":
		return "m4 /etc/mail/sendmail.mc >/etc/mail/sendmail.cf", nil
	case "update-exim4.conf", "exim -bV", "postfix reload":
		return command, nil
	}
	return "", fmt.Errorf("the snippet has a command that the lab does not know: %s", command)
}

// piece is what a snippet has for one place.
type piece struct{ file, where, text string }

// said returns the commands of a snippet.
func said(text, word string) []string {
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^(?:#|dnl) `+word+`: (.*)$`).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// pieces reads a snippet as its reader does: a line names a file and a place in it, and
// what stands below up to an empty line goes there.
func pieces(text string) []piece {
	header := regexp.MustCompile(`^(?:#|dnl) (/\S+), (.*):$`)
	var all []piece
	open := false
	for line := range strings.Lines(text) {
		m := header.FindStringSubmatch(strings.TrimRight(line, "\n"))
		switch {
		case m != nil:
			all, open = append(all, piece{file: m[1], where: m[2]}), true
		case line == "\n":
			open = false
		case open:
			all[len(all)-1].text += line
		}
	}
	return all
}

// into pastes a piece into a file, where it says.
func (p piece) into(old string) (string, error) {
	above := func(line string) (string, error) {
		i := strings.Index(old, "\n"+line)
		if i < 0 {
			return "", fmt.Errorf("there is no line %q", line)
		}
		return old[:i+1] + p.text + old[i+1:], nil
	}
	named := regexp.MustCompile(`in front of "([^"]*)"`).FindStringSubmatch(p.where)
	section := regexp.MustCompile(`^in its section (\[\w+\]), in the place of (\w+)$`).FindStringSubmatch(p.where)
	switch {
	case p.where == "a file of its own":
		return p.text, nil
	case p.where == "at its end":
		return old + p.text, nil
	case p.where == "near its top":
		return p.text + old, nil
	case p.where == "each in the place of a line with the same name":
		return withSettings(old, p.text), nil
	case p.where == `below "begin transports"`:
		return strings.Replace(old, "\nbegin transports\n", "\nbegin transports\n"+p.text, 1), nil
	case p.where == "below its other FEATURE lines and above MAILER_DEFINITIONS":
		return above("MAILER_DEFINITIONS\n")
	case named != nil:
		return above(named[1] + "\n")
	case section != nil:
		without := regexp.MustCompile(`(?m)^`+section[2]+` = .*\n`).ReplaceAllString(old, "")
		return strings.Replace(without, section[1]+"\n", p.text, 1), nil
	}
	return "", fmt.Errorf("where is %q?", p.where)
}

// stockPostfix is what of main.cf is not the lab's own: as Debian installs it.
const stockPostfix = "smtp_tls_security_level = may\nsmtp_tls_CApath = /etc/ssl/certs\n"

// installStock configures Postfix as it comes, with a transport's table of its own.
func (p postfix) installStock() error {
	dist, err := os.ReadFile(p.path("usr/share/postfix/master.cf.dist"))
	if err != nil {
		return err
	}
	// What proxymap(8) may serve is as by default.
	main := regexp.MustCompile(`(?m)^proxy_read_maps = .*\n`).ReplaceAllString(mainCF, "") + stockPostfix
	return p.write(map[string]string{
		"etc/postfix/main.cf": main, "etc/postfix/master.cf": string(dist), "etc/postfix/transport": transportMap,
	})
}

// installStock configures Exim in one of the ways that there are, with contrib's files
// where packages put them and nothing that includes them.
func (x exim) installStock(ctx context.Context, way string) error {
	err := x.remove("etc/exim4/exim4.conf", "etc/exim4/exim4.conf.localmacros", "etc/exim4/conf.d/*/*_tlsverdict", "etc/exim4/conf.d/main/000_localmacros")
	if err != nil {
		return err
	}
	template, err := os.ReadFile(x.path("etc/exim4/exim4.conf.template"))
	if err != nil {
		return err
	}
	files := map[string]string{"etc/mailname": "mta.lab.example\n", "etc/exim4/exim4.conf.template": withoutOurs(string(template))}
	switch way {
	case "file":
		files["etc/exim4/exim4.conf"] = withoutOurs(eximConf)
		return x.write(files)
	case "split":
		files["etc/exim4/conf.d/main/000_localmacros"] = ownMacros
	case "unsplit":
		files["etc/exim4/exim4.conf.localmacros"] = ownMacros
	}
	files["etc/exim4/update-exim4.conf.conf"] = fmt.Sprintf(debianConf, way == "split")
	if err := x.write(files); err != nil {
		return err
	}
	_, err = x.run(ctx, "update-exim4.conf")
	return err
}

// withoutOurs is a configuration without the lines that include contrib's files.
func withoutOurs(text string) string {
	lines := slices.Collect(strings.Lines(text))
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, ".include /usr/share/tlsverdict/") }), "")
}

func TestPieces(t *testing.T) {
	const text = `# Postfix 3.10.
# First: cp a b

# /etc/main.cf, each in the place of a line with the same name:
# why
b = 2
#c = 3

dnl /etc/x.toml, in its section [postfix], in the place of dane:
[postfix]
dane = "native"

# Then: make
`
	got := pieces(text)
	want := []piece{
		{"/etc/main.cf", "each in the place of a line with the same name", "# why\nb = 2\n#c = 3\n"},
		{"/etc/x.toml", "in its section [postfix], in the place of dane", "[postfix]\ndane = \"native\"\n"},
	}
	if !slices.Equal(got, want) || !slices.Equal(said(text, "First"), []string{"cp a b"}) || !slices.Equal(said(text, "Then"), []string{"make"}) {
		t.Errorf("%+v", got)
	}
	for i, tc := range []struct{ old, want string }{
		{"a = 1\nb = 1\n", "a = 1\n# why\nb = 2\n#c = 3\n"},
		{"[a]\nx = 1\n[postfix]\ndane = \"auto\"\ny = 2\n", "[a]\nx = 1\n[postfix]\ndane = \"native\"\ny = 2\n"},
	} {
		if got, err := got[i].into(tc.old); err != nil || got != tc.want {
			t.Errorf("%q, %v; want %q", got, err, tc.want)
		}
	}
	if _, err := (piece{where: "somewhere"}).into(""); err == nil {
		t.Error("a place that nobody knows")
	}
}
