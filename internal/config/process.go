package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Process is what the process keeps of its rights once it has started.
type Process struct {
	// User is who root becomes; empty: nobody else.
	User     string
	Landlock Landlock
	// Read are files and directories, absolute, that may be read beside those that are
	// known to be needed.
	Read []string
}

// Landlock says whether the kernel is to hold the process to its files and ports
// (landlock(7)). The zero value is the strictest.
type Landlock uint8

const (
	// LandlockOn: a kernel without it is an error.
	LandlockOn Landlock = iota
	// LandlockAuto: where the kernel has it.
	LandlockAuto
	// LandlockOff: not at all.
	LandlockOff
)

// String returns the word in the file.
func (l Landlock) String() string {
	switch l {
	case LandlockOn:
		return "on"
	case LandlockAuto:
		return "auto"
	case LandlockOff:
		return "off"
	}
	return fmt.Sprintf("landlock(%d)", uint8(l))
}

func processKeys() []key[Config] {
	return []key[Config]{
		bind("process.user", `""`, func(c *Config) *string { return &c.Process.User }, userName),
		bind("process.landlock", `"auto"`, func(c *Config) *Landlock { return &c.Process.Landlock },
			oneOf(word[Landlock]{"auto", LandlockAuto}, word[Landlock]{"on", LandlockOn}, word[Landlock]{"off", LandlockOff})),
		bind("process.read", `[]`, func(c *Config) *[]string { return &c.Process.Read }, list(place)),
	}
}

// userName reads the name of a user, or none.
func userName(v any) (string, error) {
	text, ok := v.(string)
	if !ok || text == "root" || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' || c == ':' }) {
		return "", errors.New(`want the name of a user other than root, such as "tlsverdict", or ""`)
	}
	return text, nil
}

// place reads an absolute path.
func place(v any) (string, error) {
	text, err := absolute(v)
	if err != nil || text == "" {
		return "", errors.New(`want an absolute path`)
	}
	return filepath.Clean(text), nil
}
