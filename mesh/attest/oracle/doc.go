// Package oracle holds nothing: its tests hold our verifiers against another.
package oracle
