package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"
)

// A setting has one name, in three spellings: the flag --max-value, the
// environment variable UNKAI_MAX_VALUE and the key max-value of the TOML file.
// The first of these that is given counts; else there is a default.

// configFlag names the file. It cannot be a setting in that file.
const configFlag = "config"

// noSettings are flags of one call, which make no sense in a file.
var noSettings = []string{"help", "json", "yes", "wait", configFlag}

func variable(name string) string {
	return "UNKAI_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// settingNames are the flags that are settings.
func settingNames(flags *pflag.FlagSet) (names []string) {
	flags.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(noSettings, f.Name) {
			names = append(names, f.Name)
		}
	})
	return names
}

// origins says where each setting that was given comes from.
type origins map[string]string

// blame names the origin in an error that begins with a setting's name, or with
// the quorum, which is three settings.
func (from origins) blame(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, from.blame(e))
		}
		return errors.Join(all...)
	}
	names, _, _ := strings.Cut(err.Error(), ":")
	if strings.HasPrefix(names, "quorum ") {
		names = "n r w"
	}
	var where []string
	for name := range strings.FieldsSeq(names) {
		if from[name] != "" {
			where = append(where, from[name])
		}
	}
	if len(where) == 0 {
		return err
	}
	return fmt.Errorf("%w (from %s)", err, strings.Join(where, ", "))
}

// settle gives every flag that was not given on the command line its value from
// the environment or from the file. An empty variable counts as not given.
func settle(flags *pflag.FlagSet, env func(string) (string, bool)) (origins, error) {
	var file map[string]entry
	if path := configPath(flags, env); path != "" {
		var err error
		if file, err = readFile(path, settingNames(flags)); err != nil {
			return nil, err
		}
	}
	from := origins{}
	var errs []error
	for _, name := range settingNames(flags) {
		f := flags.Lookup(name)
		text, ok := env(variable(name))
		where := variable(name)
		switch e, inFile := file[name]; {
		case f.Changed:
			from[name] = "--" + name
			continue
		case ok && text != "":
		case inFile:
			text, where = e.text, e.where
		default:
			continue
		}
		from[name] = where
		if err := f.Value.Set(text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %q: %w", where, name, text, err))
		}
	}
	return from, errors.Join(errs...)
}

func configPath(flags *pflag.FlagSet, env func(string) (string, bool)) string {
	f := flags.Lookup(configFlag)
	if f == nil {
		return ""
	}
	if !f.Changed {
		path, _ := env(variable(configFlag))
		return path
	}
	return f.Value.String()
}

// entry is a line of the file.
type entry struct{ text, where string }

// readFile reads settings from a TOML file, and refuses names it does not know.
func readFile(path string, known []string) (map[string]entry, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var values map[string]any
	if err := toml.Unmarshal(b, &values); err != nil {
		var wrong *toml.DecodeError
		if errors.As(err, &wrong) {
			row, column := wrong.Position()
			return nil, fmt.Errorf("%s:%d:%d: %w", path, row, column, err)
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	file := map[string]entry{}
	var errs []error
	for _, key := range keys(b) {
		name := strings.Join(key.Key(), ".")
		row, _ := key.Position()
		where := fmt.Sprintf("%s:%d", path, row)
		if !slices.Contains(known, name) {
			err := fmt.Errorf("%s: %q is not a setting", where, name)
			if near := nearest(name, known); near != "" {
				err = fmt.Errorf("%w; did you mean %q?", err, near)
			}
			errs = append(errs, err)
			continue
		}
		text, err := text(values[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", where, name, err))
		}
		file[name] = entry{text, where}
	}
	return file, errors.Join(errs...)
}

// keys are the keys of a document with their lines. Asked to fill a struct
// without fields, strictly, the library lists every key as one too many.
func keys(document []byte) []toml.DecodeError {
	d := toml.NewDecoder(bytes.NewReader(document)).DisallowUnknownFields()
	var all *toml.StrictMissingError
	if errors.As(d.Decode(new(struct{})), &all) {
		return all.Errors
	}
	return nil
}

// text writes a value of the file as it would be written on the command line.
func text(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case int64, float64, bool:
		return fmt.Sprint(v), nil
	case []any:
		var parts []string
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return "", fmt.Errorf("%v is not a text", e)
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("want a text, a number, true or false, or a list of texts")
}
