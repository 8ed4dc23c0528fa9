// SPDX-License-Identifier: Apache-2.0

public import SystemPackage

/// The same calls on arrays of bytes, for what is small and rare.
extension UnixSocket {
    /// Receives up to `limit` bytes and the descriptors that came with them.
    ///
    /// - Parameters:
    ///   - socket: connected.
    ///   - limit: at least one.
    /// - Returns: how the call ended; the bytes, none unless that is `.bytes`; the descriptors.
    /// - Throws: as the call on a span.
    public static func receive(
        from socket: borrowing OwnedDescriptor, upTo limit: Int
    ) throws(Errno) -> (IOResult, ArraySlice<UInt8>, ReceivedDescriptors) {
        var buffer = [UInt8](repeating: 0, count: limit)
        var span = buffer.mutableSpan
        // SAFETY: plain bytes, of which every pattern is legal.
        var bytes = unsafe span.mutableBytes
        let (result, descriptors) = try receive(from: socket, into: &bytes)
        guard case .bytes(let count) = result else { return (result, [], descriptors) }
        return (result, buffer[..<count], descriptors)
    }

    /// Sends bytes with descriptors attached to the first of them.
    public static func send(
        _ bytes: [UInt8], descriptors: [Int32] = [], to socket: borrowing OwnedDescriptor
    ) throws(Errno) -> IOResult {
        // SAFETY: plain bytes, which hold no padding.
        try send(unsafe bytes.span.bytes, descriptors: descriptors, to: socket)
    }
}
