// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Memory for O_DIRECT, aligned to a sector but on purpose not to a page.
@safe
final class TransferBuffer {
    /// O_DIRECT, which Glibc's module does not show.
    #if arch(x86_64)
        static let pastPageCache: Int32 = 0o40000
    #elseif arch(arm64)
        static let pastPageCache: Int32 = 0o200000
    #endif

    let wordCount: Int
    private let allocation: UnsafeMutableRawPointer
    private let words: UnsafeMutableBufferPointer<UInt64>

    init(wordCount: Int) {
        self.wordCount = wordCount
        let byteCount = wordCount * 8 + DiskExercise.sectorByteCount
        // SAFETY: the words lie one sector into an allocation that is one sector longer than they are.
        unsafe allocation = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 4096)
        unsafe words = UnsafeMutableBufferPointer(
            start: (allocation + DiskExercise.sectorByteCount)
                .bindMemory(to: UInt64.self, capacity: wordCount),
            count: wordCount)
        unsafe words.initialize(repeating: 0)
    }

    deinit {
        // SAFETY: the pointer is the allocation's, freed once.
        unsafe allocation.deallocate()
    }

    subscript(index: Int) -> UInt64 {
        get {
            precondition(index >= 0 && index < wordCount, "a word beyond the buffer")
            // SAFETY: the index was checked on the line above.
            return unsafe words[index]
        }
        set {
            precondition(index >= 0 && index < wordCount, "a word beyond the buffer")
            // SAFETY: the index was checked on the line above.
            unsafe words[index] = newValue
        }
    }

    func write(to descriptor: Int32, byteCount: Int, at offset: Int) -> Int {
        precondition(byteCount <= wordCount * 8, "a write beyond the buffer")
        // SAFETY: the length was checked on the line above.
        return unsafe pwrite(descriptor, words.baseAddress, byteCount, offset)
    }

    func read(from descriptor: Int32, byteCount: Int, at offset: Int) -> Int {
        precondition(byteCount <= wordCount * 8, "a read beyond the buffer")
        // SAFETY: the length was checked on the line above.
        return unsafe pread(descriptor, words.baseAddress, byteCount, offset)
    }
}
