import { Tile } from "./tile";

export default function Page() {
  return <Tile model="/models/buildings/" image="/tile.png" />;
}
