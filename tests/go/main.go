// Checks an exported log with the checker of Go's checksum database, which shares nothing with ours: the checkpoint as a
// signed note, every tile against it, every entry against its tile.
//
// Usage: log-check EXPORT-OF-A-ZONE PUBLIC-KEY [COSIGNERS-KEY]
package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const width = 256

func path(kind string, n int64, w int) string {
	name := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		name = fmt.Sprintf("x%03d/%s", n%1000, name)
	}
	if w < width {
		name += fmt.Sprintf(".p/%d", w)
	}
	return "tile/" + kind + "/" + name
}

type tiles string

func (tiles) Height() int                            { return 8 }
func (tiles) SaveTiles(t []tlog.Tile, data [][]byte) {}
func (dir tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var read [][]byte
	for _, t := range wanted {
		data, err := os.ReadFile(filepath.Join(string(dir), path(strconv.Itoa(t.L), t.N, t.W)))
		if err != nil {
			return nil, err
		}
		read = append(read, data)
	}
	return read, nil
}

// cosigner verifies signatures of the type cosignature/v1, whose text begins with the witness's time.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	head := fmt.Sprintf("cosignature/v1\ntime %d\n", binary.BigEndian.Uint64(sig))
	return ed25519.Verify(c.key, append([]byte(head), msg...), sig[8:])
}

func newCosigner(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(strings.TrimSpace(vkey), "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not a key")
	}
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return nil, err
	}
	typed, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(typed) != 1+ed25519.PublicKeySize || typed[0] != 4 {
		return nil, errors.New("not a cosigner's key")
	}
	return cosigner{parts[0], uint32(hash), typed[1:]}, nil
}

func check(dir string, keys []string) (int64, error) {
	log, err := note.NewVerifier(strings.TrimSpace(keys[0]))
	if err != nil {
		return 0, err
	}
	known := []note.Verifier{log}
	for _, key := range keys[1:] {
		witness, err := newCosigner(key)
		if err != nil {
			return 0, err
		}
		known = append(known, witness)
	}
	text, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return 0, err
	}
	signed, err := note.Open(text, note.VerifierList(known...))
	if err != nil {
		return 0, err
	}
	if len(signed.Sigs) != len(known) {
		return 0, fmt.Errorf("%d of %d signatures", len(signed.Sigs), len(known))
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[0] != log.Name() {
		return 0, errors.New("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return 0, err
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return 0, err
	}
	hashes := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tiles(dir))
	for n := int64(0); n*width < size; n++ {
		w := width
		if size-n*width < width {
			w = int(size - n*width)
		}
		bundle, err := os.ReadFile(filepath.Join(dir, path("entries", n, w)))
		if err != nil {
			return 0, err
		}
		places := make([]int64, w)
		for i := range places {
			places[i] = tlog.StoredHashIndex(0, n*width+int64(i))
		}
		leaves, err := hashes.ReadHashes(places)
		if err != nil {
			return 0, err
		}
		for i := range leaves {
			if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
				return 0, fmt.Errorf("entry %d is cut off", n*width+int64(i))
			}
			entry := bundle[2 : 2+int(binary.BigEndian.Uint16(bundle))]
			bundle = bundle[2+len(entry):]
			if tlog.RecordHash(entry) != leaves[i] || !json.Valid(entry) {
				return 0, fmt.Errorf("entry %d isn't the one in the tree", n*width+int64(i))
			}
		}
		if len(bundle) != 0 {
			return 0, fmt.Errorf("bundle %d is too long", n)
		}
	}
	return size, nil
}

func main() {
	size, err := check(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(size)
}
