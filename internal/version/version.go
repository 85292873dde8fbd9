// Package version says which version of the programs this is.
//
//	info, _ := debug.ReadBuildInfo()
//	fmt.Println(version.Of(info)) // 0.1.0~git20261123214003.1fca7a7
//
// Number is the one place where it is written: packages take it from the built program,
// and tests compare CHANGELOG.md and the files of contrib/packaging with it.
//
// # Between two releases
//
// A build from a commit that has no tag "v" + Number is a step on the way to that
// release. It adds the commit's date (UTC) and the beginning of its hash, and
// ".changed" where the tree is not what was committed. The tilde sorts it before the
// release, and the date sorts it among its like, both for dpkg and for rpm: an upgrade
// never goes back. A build that knows no commit, as from a tarball, is Number alone.
//
// # What it does not do
//
// It asks neither git nor the clock. The same commit gives the same version.
package version

import (
	"runtime/debug"
	"strings"
	"time"
)

// Number is the release that this tree is, or will be.
const Number = "0.1.0"

// hashLength is how much of a commit's hash is shown.
const hashLength = 7

// Of returns the version of a program, from what the Go command wrote into it (with
// -buildvcs). Nil is a program that knows nothing of its build.
func Of(info *debug.BuildInfo) string {
	if info == nil || info.Main.Version == "v"+Number {
		return Number
	}
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	at, err := time.Parse(time.RFC3339, settings["vcs.time"])
	hash := settings["vcs.revision"]
	if err != nil || len(hash) < hashLength {
		return Number
	}
	parts := []string{Number + "~git" + at.UTC().Format("20060102150405"), hash[:hashLength]}
	if settings["vcs.modified"] == "true" {
		parts = append(parts, "changed")
	}
	return strings.Join(parts, ".")
}
