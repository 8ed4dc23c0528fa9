// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage

/// The command line as the kernel shows it to every user of the machine.
public enum ProcessArguments {
    /// Makes a part of each argument unreadable from now on.
    ///
    /// To be called before there are other threads. The arguments that this process has read
    /// already stay what they are.
    ///
    /// - Parameter hidden: what of an argument is to be hidden; nil for nothing.
    public static func overwrite(_ hidden: (String) -> Range<String.Index>?) {
        guard let (start, end) = bounds(), start < end else { return }
        var address = start
        while address < end {
            // SAFETY: the kernel says that the arguments lie in these bytes of our stack, each with
            // a NUL behind it, and nobody else writes there.
            guard let argument = unsafe UnsafeMutablePointer<CChar>(bitPattern: address) else {
                return
            }
            let byteCount = unsafe strnlen(argument, end - address)
            let text = unsafe String(
                decoding: UnsafeRawBufferPointer(start: argument, count: byteCount), as: UTF8.self)
            if let range = hidden(text), text.utf8.count == byteCount {
                let first = text.utf8.distance(from: text.startIndex, to: range.lowerBound)
                let count = text.utf8.distance(from: range.lowerBound, to: range.upperBound)
                unsafe (argument + first).update(
                    repeating: CChar(UInt8(ascii: "*")), count: count)
            }
            address += byteCount + 1
        }
    }

    /// Where the arguments lie: fields 48 and 49 of proc(5), /proc/pid/stat.
    private static func bounds() -> (start: Int, end: Int)? {
        guard let text = status() else { return nil }
        // The second field, in parentheses, may hold spaces.
        guard let name = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: name)...].split(separator: " ")
        guard fields.count > 46, let start = Int(fields[45]), let end = Int(fields[46]),
            start > 0
        else { return nil }
        return (start, end)
    }

    private static func status() -> String? {
        // Without /proc nobody sees the arguments either.
        try? FileDescriptor.open(FilePath("/proc/self/stat"), .readOnly)
            .closeAfterReading(upTo: 4096)
    }
}

extension FileDescriptor {
    fileprivate func closeAfterReading(upTo limit: Int) throws -> String {
        try closeAfter {
            // SAFETY: the kernel writes within the buffer, for the length of the call.
            let bytes = try unsafe [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
                count = try unsafe read(into: UnsafeMutableRawBufferPointer(buffer))
            }
            return String(decoding: bytes, as: UTF8.self)
        }
    }
}
