package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// choice is a flag with a few possible values.
type choice struct {
	value *string
	of    []string
}

// Set implements pflag.Value.
func (c choice) Set(text string) error {
	if !slices.Contains(c.of, text) {
		last := len(c.of) - 1
		return fmt.Errorf("want %s or %s", strings.Join(c.of[:last], ", "), c.of[last])
	}
	*c.value = text
	return nil
}

// String implements pflag.Value.
func (c choice) String() string {
	if c.value == nil { // pflag asks a zero value too
		return ""
	}
	return *c.value
}

// Type implements pflag.Value.
func (c choice) Type() string { return strings.Join(c.of, "|") }

// offer adds a choice to the flags of cmd, with completion in the shell.
func offer(cmd *cobra.Command, value *string, name, usage string, of ...string) {
	cmd.Flags().Var(choice{value, of}, name, usage)
	err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(of, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag was added just now
	}
}
