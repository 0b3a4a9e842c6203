package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is what is being built.
const version = "0.1.0"

// build says what this binary was made from. A binary made outside of a
// checkout knows no commit.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // there were uncommitted changes
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String is one line for people.
func (b build) String() string {
	from := ""
	if b.Commit != "" {
		from = ", commit " + b.Commit[:min(12, len(b.Commit))]
		if b.Modified {
			from += " with changes"
		}
	}
	return fmt.Sprintf("unkai %s%s, %s %s/%s", b.Version, from, b.Go, b.OS, b.Arch)
}

func (o *outside) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which version this is",
		Example: `  unkai version
  unkai version --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			if !asJSON {
				return o.print("%s\n", b)
			}
			text, err := json.MarshalIndent(b, "", "  ")
			if err != nil {
				return fmt.Errorf("write JSON: %w", err)
			}
			return o.print("%s\n", text)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// print writes the answer of a command.
func (o *outside) print(format string, args ...any) error {
	if _, err := fmt.Fprintf(o.out, format, args...); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}
