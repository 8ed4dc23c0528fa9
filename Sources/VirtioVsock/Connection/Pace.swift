// SPDX-License-Identifier: Apache-2.0

/// Whether a stream to the guest comes so fast, and in pieces so small, that its socket is better
/// read by the clock than whenever there is something: what network cards call interrupt moderation.
///
/// A writer on another processor makes the socket readable again while the last piece is still on
/// its way: a wake-up, a read and a signal for a few KiB each. A stream that has proved to be one
/// rests after each read, for `VsockOptions.rest`, and finds what has come meanwhile in one go.
/// Requests and answers never do: a packet of the guest on the connection begins the proof anew.
/// Some rests in succession that brought little, or as much as the writer's socket holds, end it;
/// when it has not paid at all, the next proof takes twice as long.
struct Pace: BitwiseCopyable, Equatable {
    /// By how many short reads must outnumber long ones to prove a stream.
    private static let leastProof: UInt16 = 8
    private static let longestProof: UInt16 = 1024
    /// Bytes below which a read that empties the socket is a short one.
    ///
    /// Larger pieces pay anyway, and soon fill what the writer's socket holds.
    private static let shortRead = 64 * 1024
    /// Bytes for each read of the proof, on average, that a stream has at least.
    private static let leastPiece = 512
    /// Bytes that a rest has to bring.
    private static let leastGain = 2048
    /// Rests in succession that may bring less: the writer may be waiting for a processor.
    private static let missLimit: UInt8 = 8
    /// Rests that brought enough before it counts as paid.
    private static let leastGainCount: UInt8 = 8
    /// Bytes of large pieces that a writer can have waiting in its socket (208 KiB by default, with
    /// what the kernel adds to each): after as many, it may have had to stop.
    private static let fullSocket = 180 * 1024

    /// Whether the socket is read by the clock.
    private(set) var isKept = false
    private var gainCount: UInt8 = 0
    private var missCount: UInt8 = 0
    private var proof = Pace.leastProof
    private var readCount: UInt16 = 0
    private var byteCount: Int32 = 0

    init() {}

    /// Notes a read that has emptied the socket, or has found it empty.
    ///
    /// - Returns: whether to rest now.
    @inline(__always)
    mutating func read(_ byteCount: Int) -> Bool {
        isKept ? judge(byteCount) : prove(byteCount)
    }

    private mutating func prove(_ byteCount: Int) -> Bool {
        guard byteCount < Self.shortRead else {
            if readCount > 0 { readCount -= 1 }
            return false
        }
        readCount &+= 1
        self.byteCount &+= Int32(truncatingIfNeeded: byteCount)
        guard readCount >= proof else { return false }
        let isStream = Int(self.byteCount) >= Int(proof) * Self.leastPiece
        interrupt()
        isKept = isStream
        return isStream
    }

    private mutating func judge(_ byteCount: Int) -> Bool {
        if byteCount >= Self.leastGain && byteCount < Self.fullSocket {
            missCount = 0
            if gainCount < Self.leastGainCount { gainCount += 1 }
        } else {
            missCount += 1
            if missCount == Self.missLimit { end() }
        }
        return isKept
    }

    private mutating func end() {
        let hasPaid = gainCount == Self.leastGainCount
        proof = hasPaid ? Self.leastProof : min(2 * proof, Self.longestProof)
        interrupt()
    }

    /// The proof begins anew.
    @inline(__always)
    mutating func interrupt() {
        isKept = false
        gainCount = 0
        missCount = 0
        readCount = 0
        byteCount = 0
    }
}
