package house

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	eximPage  = "docs/exim.md"
	eximFiles = "contrib/exim"
	// eximThere is where the page says that the files are.
	eximThere = "/usr/share/tlsverdict/exim/"
)

// eximText returns Exim's files, each under its name, without its comments.
func eximText(t *testing.T) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	for _, dir := range []string{"", "debian"} {
		entries, err := os.ReadDir(filepath.Join(root, eximFiles, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			name := filepath.Join(dir, e.Name())
			var lines []string
			for line := range strings.Lines(page(t, filepath.Join(eximFiles, name))) {
				if !strings.HasPrefix(strings.TrimSpace(line), "#") {
					lines = append(lines, line)
				}
			}
			texts[name] = strings.Join(lines, "")
		}
	}
	return texts
}

// words returns what a pattern finds in a text, each once, in order.
func words(text, pattern string) []string {
	found := regexp.MustCompile(pattern).FindAllString(text, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

// TestEximPage holds docs/exim.md and contrib/exim against one another: the lines to
// paste, the names of files, routers, transports and settings, and what Exim logs.
func TestEximPage(t *testing.T) {
	files, text := eximText(t), page(t, eximPage)
	all := strings.Join(slices.Collect(maps.Values(files)), "\n")

	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		for _, path := range words(m[2], regexp.QuoteMeta(eximThere)+`[\w/]+`) {
			if files[strings.TrimPrefix(path, eximThere)] == "" {
				t.Errorf("%s has %s, and there is no such file in %s", eximPage, path, eximFiles)
			}
		}
		for _, path := range words(m[2], `contrib/exim/[\w/]+`) {
			if files[strings.TrimPrefix(path, eximFiles+"/")] == "" {
				t.Errorf("%s has %s, which is not there", eximPage, path)
			}
		}
	}
	for _, path := range words(text, `/etc/exim4/conf\.d/\w+/\d+_tlsverdict`) {
		if name := "debian/" + strings.Split(path, "/")[4]; !strings.Contains(page(t, filepath.Join(eximFiles, name)), path) {
			t.Errorf("%s has %s, which %s does not name", eximPage, path, name)
		}
	}
	for _, name := range words(text, `tlsverdict_[a-z_]+[a-z]`) {
		if !strings.Contains(all, "\n"+name+":\n") {
			t.Errorf("%s has %s, which is neither a router nor a transport", eximPage, name)
		}
	}
	for _, name := range words(all, `(?m)^tlsverdict_[a-z_]+:$`) {
		if name = strings.TrimSuffix(name, ":"); !strings.Contains(text, "`"+strings.TrimSuffix(name, "_smtps")+"`") && !strings.Contains(text, "R="+name) {
			t.Errorf("%s does not tell of %s", eximPage, name)
		}
	}
	for _, row := range table(t, eximPage, "## When mail waits") {
		_, said, _ := strings.Cut(row[0], "tlsverdict: ")
		if said, _, _ = strings.Cut(said, "..."); !strings.Contains(all, strings.TrimRight(said, " :")) {
			t.Errorf("%s has %q, which Exim never says", eximPage, said)
		}
	}
}

// TestEximSettings: every setting is in the page, with its default, and none besides.
func TestEximSettings(t *testing.T) {
	files := eximText(t)
	all := files["macros"] + files["routers"] + files["transports"] + files["common"]
	listed := make(map[string]string)
	for _, row := range table(t, eximPage, "## Settings") {
		listed[row[0]] = row[2]
		if !strings.Contains(all, row[0]) {
			t.Errorf("%s has the setting %s, which nothing uses", eximPage, row[0])
		}
	}
	for _, name := range words(all, `TLSVERDICT_[A-Z_]+`) {
		_, internal := map[string]string{"TLSVERDICT_TRANSPORT": "", "TLSVERDICT_NETSTRING": "", "TLSVERDICT_TLSA": "", "TLSVERDICT_APART": ""}[name]
		value, ok := listed[name]
		if !ok && !internal {
			t.Errorf("%s does not tell of the setting %s", eximPage, name)
		}
		if _, rest, set := strings.Cut(files["macros"], "\n"+name+" = "); set && ok && !strings.Contains(value, " ") {
			if is, _, _ := strings.Cut(rest, "\n"); is != value {
				t.Errorf("%s: %s is %q unless set, and the page says %q", eximPage, name, is, value)
			}
		}
	}
}

// TestEximMacros: Exim replaces macros wherever their names stand, so that none may be
// the beginning of another.
func TestEximMacros(t *testing.T) {
	files := eximText(t)
	names := words(strings.Join(slices.Collect(maps.Values(files)), "\n"), `TLSVERDICT_[A-Z_]+`)
	for i, name := range names {
		for _, other := range names[i+1:] {
			if strings.HasPrefix(other, name) {
				t.Errorf("%s is the beginning of %s", name, other)
			}
		}
	}
	if len(names) < 10 {
		t.Errorf("%q are all macros: the test means nothing", names)
	}
}

// TestEximTransports: what keeps mail from being returned, and one domain's mail from
// going through another's session, is in every transport; and each has one of every
// kind, with and without STARTTLS.
func TestEximTransports(t *testing.T) {
	files := eximText(t)
	common := files["common"]
	for _, line := range []string{"multi_domain = false", "connection_max_messages = 1", "dnssec_request_domains = *", "port = $r_tlsverdict_port"} {
		if !strings.Contains(common, "  "+line+"\n") {
			t.Errorf("%s/common has no %q", eximFiles, line)
		}
	}
	options := make(map[string]string) // by transport
	for _, part := range regexp.MustCompile(`(?m)^(tlsverdict_\w+):\n((?:[ .].*\n)+)`).FindAllStringSubmatch(files["transports"], -1) {
		options[part[1]] = strings.TrimSuffix(part[2], ".endif\n")
		if !strings.HasPrefix(part[2], "  .include TLSVERDICT_DIR/common\n") {
			t.Errorf("%s does not begin with what all have", part[1])
		}
		if strings.Contains(part[2], "hosts_require_dane") {
			t.Errorf("%s has hosts_require_dane, which returns mail", part[1])
		}
	}
	for name, want := range map[string][]string{
		"tlsverdict_encrypt":   {"hosts_require_tls = *", "hosts_try_dane ="},
		"tlsverdict_secure":    {"hosts_require_tls = *", "tls_verify_hosts = *", "tls_verify_cert_hostnames = *", "tls_verify_certificates = TLSVERDICT_CAFILE", "tls_sni = $host", "hosts_try_dane ="},
		"tlsverdict_dane":      {"hosts_try_dane = *"},
		"tlsverdict_dane_only": {"hosts_require_tls = *", "tls_verify_hosts = *", "tls_verify_cert_hostnames = *", "tls_verify_certificates = /dev/null", "hosts_try_dane = *"},
	} {
		for _, line := range want {
			if !strings.Contains(options[name], "  "+line+"\n") {
				t.Errorf("%s has no %q", name, line)
			}
		}
		same := strings.Replace(options[name+"_smtps"], "  protocol = smtps\n", "", 1)
		if same != options[name] || same == options[name+"_smtps"] {
			t.Errorf("%s_smtps is not the same with implicit TLS:\n%s\n%s", name, options[name], options[name+"_smtps"])
		}
		delete(options, name)
		delete(options, name+"_smtps")
	}
	for name := range options {
		t.Errorf("%s is a transport that this test does not know", name)
	}
	if last := files["macros"][strings.Index(files["macros"], "\nTLSVERDICT_TRANSPORT ="):]; !strings.Contains(last, "{tlsverdict_dane_only}}") {
		t.Error("what TLSVERDICT_TRANSPORT does not know must get the strictest transport")
	}
}
