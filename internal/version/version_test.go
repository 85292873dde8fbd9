package version

import (
	"os"
	"regexp"
	"runtime/debug"
	"testing"
)

func TestOf(t *testing.T) {
	commit := []debug.BuildSetting{{Key: "vcs.time", Value: "2026-11-23T21:40:03Z"}, {Key: "vcs.revision", Value: "1fca7a7aa0"}}
	changed := append([]debug.BuildSetting{{Key: "vcs.modified", Value: "true"}}, commit...)
	for name, tc := range map[string]struct {
		info *debug.BuildInfo
		want string
	}{
		"unknown":        {nil, Number},
		"tarball":        {&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, Number},
		"release":        {&debug.BuildInfo{Main: debug.Module{Version: "v" + Number}, Settings: commit}, Number},
		"commit":         {&debug.BuildInfo{Settings: commit}, Number + "~git20261123214003.1fca7a7"},
		"changed":        {&debug.BuildInfo{Settings: changed}, Number + "~git20261123214003.1fca7a7.changed"},
		"of another day": {&debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.time", Value: "yesterday"}, commit[1]}}, Number},
	} {
		if got := Of(tc.info); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestWrittenOnce: what a distribution builds from says the same number.
func TestWrittenOnce(t *testing.T) {
	for file, pattern := range map[string]string{
		"../../contrib/packaging/debian/changelog":    `\Atlsverdict \(([^-]+)-`,
		"../../contrib/packaging/rpm/tlsverdict.spec": `(?m)^Version:\s+(\S+)$`,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(pattern).FindStringSubmatch(string(text))
		if m == nil || m[1] != Number {
			t.Errorf("%s: %q, want %s", file, m, Number)
		}
	}
}
