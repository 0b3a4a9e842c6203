package main

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// size is a number of bytes, as a flag: 1048576, 1024k, 1MiB, 1MB and 1m are
// the same, since units are powers of 1024.
type size int64

const sizeUnits = "kmgt"

var errSize = errors.New("want a number of bytes like 1048576, 512k, 64MiB or 2g")

// Set implements pflag.Value.
func (s *size) Set(text string) error {
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit := strings.ToLower(strings.TrimSpace(text[len(digits):]))
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return errSize
	}
	shift := 0
	if unit != "" && unit != "b" {
		i := strings.IndexByte(sizeUnits, unit[0])
		if rest := unit[1:]; i < 0 || rest != "" && rest != "b" && rest != "ib" {
			return errSize
		}
		shift = 10 * (i + 1)
	}
	if n > math.MaxInt64>>shift {
		return errSize
	}
	*s = size(n << shift)
	return nil
}

// String is the size in the largest unit that keeps it whole.
func (s *size) String() string {
	n, unit := int64(*s), ""
	for _, u := range sizeUnits {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, strings.ToUpper(string(u))+"iB"
	}
	return strconv.FormatInt(n, 10) + unit
}

// Type implements pflag.Value.
func (s *size) Type() string { return "size" }
