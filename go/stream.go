package hnswtoolbox

import (
	"context"
	"iter"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Record is a record of an index.
type Record struct {
	InternalID uint64    // position in the index
	Label      uint64    // hnswlib's label
	Deleted    bool      // true if marked as deleted
	UserID     *string   // Chroma's id, if joined metadata has one
	SeqID      *uint64   // sequence number of the last write, if joined metadata has one
	Vector     []float32 // not shared with any other record
}

// Records iterates over the records of an index in the order of internal ids, without a file.
//
// The request is an [ExtractRequest] without OutputPath, OutputFormat, Compression and
// RowGroupBytes. An error ends the loop, with a zero record. If a file of the index was changed
// during the loop, the error comes after the last record. Leaving the loop stops the work. Records
// remain valid after the loop.
//
// [Close] waits for the end of the loop, so it must not be called inside it.
func Records(ctx context.Context, req ExtractRequest, opts ...Option) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for batch, err := range Batches(ctx, req, opts...) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			vectors := append([]float32(nil), batch.Vectors...)
			for i := range batch.Labels {
				record := Record{
					InternalID: batch.InternalIDs[i],
					Label:      batch.Labels[i],
					Deleted:    batch.Deleted[i],
					Vector:     vectors[i*batch.Dimension : (i+1)*batch.Dimension : (i+1)*batch.Dimension],
				}
				if batch.UserIDs != nil {
					record.UserID, record.SeqID = batch.UserIDs[i], batch.SeqIDs[i]
				}
				if !yield(record, nil) {
					return
				}
			}
		}
	}
}

// Batch holds several records of an index, column by column. It is valid until the next iteration.
type Batch struct {
	InternalIDs []uint64
	Labels      []uint64
	Deleted     []bool
	UserIDs     []*string // nil if no metadata was joined; an element is nil if the record has no id
	SeqIDs      []*uint64 // the same
	Vectors     []float32 // Dimension components per record, concatenated
	Dimension   int
}

// Len returns the number of records.
func (b *Batch) Len() int { return len(b.Labels) }

// Batches is [Records] for many records at a time: at most BatchSize, and at most 16 MiB of
// vectors. Nothing is copied: the vectors are the library's memory, which is invalid after the
// iteration.
func Batches(ctx context.Context, req ExtractRequest, opts ...Option) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		err := stream(ctx, req, opts, func(b *Batch) bool { return yield(b, nil) })
		remember(err)
		if err != nil {
			yield(nil, err)
		}
	}
}

// stream opens a stream and passes each batch to visit until visit returns false.
func stream(ctx context.Context, req ExtractRequest, opts []Option, visit func(*Batch) bool) error {
	op := req.operation()
	op.name = "stream records"
	op.request = func(token uint64) any {
		return struct {
			ExtractRequest
			// The library rejects one.
			OutputPath string `json:"output_path,omitempty"`
			Token      uint64 `json:"token,omitempty"`
		}{req, req.OutputPath, token}
	}
	return op.perform(ctx, opts, func(lib *library, request *byte) error {
		native := new(arrowStream)
		err := lib.attempt(op.name, func() bool { return lib.openStream(request, native) == 0 })
		if err != nil {
			return err
		}
		defer func() { purego.SyscallN(native.release, uintptr(unsafe.Pointer(native))) }()
		var batch Batch
		for {
			array := new(arrowArray)
			// A failed callback also sets the last error of its thread.
			err := lib.attempt(op.name, func() bool {
				result, _, _ := purego.SyscallN(native.getNext, uintptr(unsafe.Pointer(native)), uintptr(unsafe.Pointer(array)))
				return int32(result) == 0
			})
			if err != nil {
				return err
			}
			if array.release == 0 || !batch.visit(array, visit) {
				return nil
			}
		}
	})
}

// arrowStream is struct ArrowArrayStream of the Arrow C stream interface.
type arrowStream struct {
	getSchema, getNext, getLastError, release uintptr
	private                                   unsafe.Pointer
}

// arrowArray is struct ArrowArray of the Arrow C data interface.
type arrowArray struct {
	length, nullCount, offset, nBuffers, nChildren int64

	buffers, children, dictionary unsafe.Pointer
	release                       uintptr
	private                       unsafe.Pointer
}

func (a *arrowArray) child(i int) *arrowArray {
	return unsafe.Slice((**arrowArray)(a.children), a.nChildren)[i]
}

// buffer is a buffer of n elements, which may be missing.
func buffer[T any](a *arrowArray, number int, n int64) []T {
	start := unsafe.Slice((*unsafe.Pointer)(a.buffers), a.nBuffers)[number]
	if start == nil || n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(start), n)
}

// values are the elements of an array of numbers.
func values[T any](a *arrowArray) []T { return buffer[T](a, 1, a.offset+a.length)[a.offset:] }

// bit returns a bit of a bitmap; without a bitmap, all bits are set.
func bit(bitmap []byte, i int64) bool { return bitmap == nil || bitmap[i/8]>>(i%8)&1 != 0 }

func (a *arrowArray) bitmap(number int) []byte {
	return buffer[byte](a, number, (a.offset+a.length+7)/8)
}

// visit fills the batch from the library's columns and releases them afterwards.
func (b *Batch) visit(columns *arrowArray, visit func(*Batch) bool) bool {
	defer func() { purego.SyscallN(columns.release, uintptr(unsafe.Pointer(columns))) }()
	deleted, vectors := columns.child(2), columns.child(5)
	*b = Batch{
		InternalIDs: values[uint64](columns.child(0)),
		Labels:      values[uint64](columns.child(1)),
		Deleted:     b.Deleted[:0],
		UserIDs:     columns.child(3).strings(),
		SeqIDs:      columns.child(4).numbers(),
		Vectors:     values[float32](vectors.child(0)),
	}
	b.Dimension = len(b.Vectors) / len(b.Labels)
	bits := deleted.bitmap(1)
	for i := range deleted.length {
		b.Deleted = append(b.Deleted, bit(bits, deleted.offset+i))
	}
	if b.UserIDs == nil && b.SeqIDs != nil {
		b.UserIDs = make([]*string, b.Len())
	}
	if b.SeqIDs == nil && b.UserIDs != nil {
		b.SeqIDs = make([]*uint64, b.Len())
	}
	return visit(b)
}

// strings copies a column of strings; nil if the column is missing.
func (a *arrowArray) strings() []*string {
	if a.nullCount == a.length {
		return nil
	}
	ends := buffer[int32](a, 1, a.offset+a.length+1)[a.offset:]
	all := string(buffer[byte](a, 2, int64(ends[a.length])))
	valid := a.bitmap(0)
	copies := make([]string, a.length)
	found := make([]*string, a.length)
	for i := range a.length {
		if bit(valid, a.offset+i) {
			copies[i] = all[ends[i]:ends[i+1]]
			found[i] = &copies[i]
		}
	}
	return found
}

// numbers copies a column of numbers; nil if the column is missing.
func (a *arrowArray) numbers() []*uint64 {
	if a.nullCount == a.length {
		return nil
	}
	copies := append([]uint64(nil), values[uint64](a)...)
	valid := a.bitmap(0)
	found := make([]*uint64, a.length)
	for i := range copies {
		if bit(valid, a.offset+int64(i)) {
			found[i] = &copies[i]
		}
	}
	return found
}
