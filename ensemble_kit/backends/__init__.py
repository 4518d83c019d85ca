"""Back ends: what runs a checkpoint's network when photos are answered, each compared with torch in float32."""
